"""Writes a job's model directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from semseg.artifact import model_dir
from semseg.codecs.params import write_params
from semseg.files import flush_to_disk, replacing
from semseg.reporting.events import Emit, ModelSaved
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.loss_watch import require_finite
from semseg.types import Arrays, Classes

_RUN_FILES = (
    model_dir.BEST,
    model_dir.LAST,
    model_dir.ONNX,
    model_dir.INT8,
    model_dir.CLASSES,
    model_dir.LABEL_MAPS,
    model_dir.CARD,
)


class ArtifactWriter:
    """Writes files into the model directory, which is left unchanged until there is a model to save.

    label_maps: by which the annotations of each split are read, as JSON objects; empty if their values are the classes.
    replacing_earlier: a context manager entered while the first model replaces an earlier run's files.
    """

    def __init__(
        self,
        directory: Path,
        settings: Hyperparameters,
        classes: Classes,
        emit: Emit,
        replacing_earlier: Callable[[], AbstractContextManager[None]] = nullcontext,
        label_maps: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._classes = classes
        self._emit = emit
        self._replacing_earlier = replacing_earlier
        self._label_maps = label_maps
        self._has_model = False

    @property
    def has_model(self) -> bool:
        """Whether the directory holds a model of this run."""
        return self._has_model

    def path(self, name: str) -> Path:
        """Returns the path of a file in the model directory, whether or not it has been saved."""
        return self._directory / name

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Writes the file of this name atomically. Raises DiskFullError."""
        path = self._directory / name
        self._emit(ModelSaved(path))
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._has_model:
            with replacing(path) as temporary:
                write(temporary)
        else:
            self._save_first(path, write)

    def save_parameters(self, name: str, parameters: Arrays) -> None:
        """Writes a network's parameters with `save`. Raises DivergedError if any is not finite, DiskFullError."""
        require_finite(parameters)
        self.save(name, lambda path: write_params(path, parameters))

    def _save_first(self, path: Path, write: Callable[[Path], None]) -> None:
        """Replaces an earlier run's files by the first parameters of this one.

        If the process is killed at any moment, the directory holds parameters of one run and no file that contradicts
        them: files that describe the earlier model are removed before it, those that describe the new one follow it.
        """
        with ExitStack() as replacement:
            with replacing(path) as temporary:
                write(temporary)
                flush_to_disk(temporary)
                replacement.enter_context(self._replacing_earlier())
                self._remove_earlier(path)
            model_dir.write_hyperparams(self._directory, self._settings.as_strings())
            if self._classes.named or self._classes.colored:
                model_dir.write_classes(self._directory, self._classes)
            if self._label_maps:
                model_dir.write_label_maps(self._directory, self._label_maps)
            self._has_model = True

    def _remove_earlier(self, replaced: Path) -> None:
        """Removes an earlier run's files, except the one that is about to be replaced atomically."""
        existing = [path for name in _RUN_FILES if (path := self._directory / name).exists()]
        for path in existing:
            LOGGER.warning("Removing %s, left by an earlier run.", path)
        for path in (self._directory / model_dir.HYPERPARAMS, *reversed(existing)):
            if path != replaced:
                path.unlink(missing_ok=True)
