"""Fills the model directory of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semseg.artifact import model_dir
from semseg.reporting.events import ModelSaved, Sink
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER

_OF_ONE_RUN = (model_dir.BEST, model_dir.LAST, model_dir.ONNX, model_dir.INT8, model_dir.CLASSES)


class ArtifactWriter:
    """The model directory, which stays as it is until there is a model to save."""

    def __init__(
        self, directory: Path, settings: Hyperparameters, class_names: tuple[str, ...] | None, emit: Sink
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._class_names = class_names
        self._emit = emit
        self._begun = False

    def path(self, name: str) -> Path:
        """Where the file of this name is, once it was saved."""
        return self._directory / name

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Has the file of this name written, at once or not at all. Raises DiskFullError."""
        self._emit(ModelSaved(self._directory / name))
        self._directory.mkdir(parents=True, exist_ok=True)
        with model_dir.replacing(self._directory / name) as temporary:
            write(temporary)
            if not self._begun:
                self._begin()

    def _begin(self) -> None:
        """Makes room for the new model: parameters of an earlier run would contradict hyperparams.json."""
        for path in (self._directory / name for name in _OF_ONE_RUN):
            if path.exists():
                LOGGER.warning("Removing %s, left by an earlier run.", path)
                path.unlink()
        model_dir.write_hyperparams(self._directory, self._settings.as_strings())
        if self._class_names:
            model_dir.write_class_names(self._directory, self._class_names)
        self._begun = True
