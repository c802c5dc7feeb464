"""Fills the model directory of a job."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from semseg.artifact import model_dir
from semseg.codecs.params import write_params
from semseg.files import flush_to_disk, replacing
from semseg.reporting.events import Emit, ModelSaved
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.loss_watch import require_finite
from semseg.types import Arrays

_OF_ONE_RUN = (model_dir.BEST, model_dir.LAST, model_dir.ONNX, model_dir.INT8, model_dir.CLASSES)


class ArtifactWriter:
    """The model directory, which stays as it is until there is a model to save.

    beginning: entered for as long as the first model takes the place of an earlier one.
    """

    def __init__(
        self,
        directory: Path,
        settings: Hyperparameters,
        class_names: tuple[str, ...] | None,
        emit: Emit,
        beginning: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._class_names = class_names
        self._emit = emit
        self._beginning = beginning
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether the directory holds a model of this run."""
        return self._begun

    def path(self, name: str) -> Path:
        """Where the file of this name is, once it was saved."""
        return self._directory / name

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Has the file of this name written, at once or not at all. Raises DiskFullError."""
        path = self._directory / name
        self._emit(ModelSaved(path))
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._begun:
            with replacing(path) as temporary:
                write(temporary)
        else:
            self._begin(path, write)

    def save_parameters(self, name: str, parameters: Arrays) -> None:
        """Has the parameters of a network in the file of this name, as `save`. Raises DivergedError, DiskFullError."""
        require_finite(parameters)
        self.save(name, lambda path: write_params(path, parameters))

    def _begin(self, path: Path, write: Callable[[Path], None]) -> None:
        """Puts the first parameters in the place of an earlier run's files.

        Killed at any moment, it leaves the parameters of one run, and beside them nothing that contradicts them: what
        describes the earlier ones goes before they do, what describes the new ones comes after.
        """
        with ExitStack() as beginning:
            with replacing(path) as temporary:
                write(temporary)
                flush_to_disk(temporary)
                beginning.enter_context(self._beginning())
                self._make_room(path)
            model_dir.write_hyperparams(self._directory, self._settings.as_strings())
            if self._class_names:
                model_dir.write_class_names(self._directory, self._class_names)
            self._begun = True

    def _make_room(self, replaced: Path) -> None:
        """Removes the files of an earlier run, all but the one that is replaced at once."""
        left = [path for name in _OF_ONE_RUN if (path := self._directory / name).exists()]
        for path in left:
            LOGGER.warning("Removing %s, left by an earlier run.", path)
        for path in (self._directory / model_dir.HYPERPARAMS, *reversed(left)):
            if path != replaced:
                path.unlink(missing_ok=True)
