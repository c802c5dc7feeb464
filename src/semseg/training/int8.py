"""Adds an int8 network to the artifact of a training job, if it is about as accurate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from semseg.artifact.model_dir import INT8, describe
from semseg.data.pairs import evenly
from semseg.errors import Stopped
from semseg.reporting.events import Emit, Quantized
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.best_effort import best_effort
from semseg.training.inputs import Input, whole_images
from semseg.types import Batch


def quantize_model(
    directory: Path, inputs: tuple[Input, Input], settings: Hyperparameters, stop: Callable[[], bool], emit: Emit
) -> None:
    """Writes model_int8.onnx from the parameters that would be served, if it passes its gate, and emits the result.

    inputs: train and validation, both with a listing. A failure is logged as a warning and leaves the trained model
    unchanged. No int8 model is written once `stop()` is true.
    """
    from semseg.exporting import int8  # imported late: slow, and needed only here

    def images(one: Input, count: int) -> Iterator[Batch]:
        pairs = evenly(one.listing.pairs if one.listing else (), count)
        return whole_images(pairs, one, settings, stop)

    train, validation = inputs
    with best_effort(INT8):
        if stop():
            raise Stopped
        gate = int8.quantize(
            describe(directory),
            directory / INT8,
            (batch.images[0] for batch in images(train, int8.CALIBRATION_IMAGES)),
            lambda: ((batch.images[0], batch.labels[0]) for batch in images(validation, int8.VALIDATION_IMAGES)),
        )
        emit(Quantized(gate.f32, gate.int8, gate.images, gate.passed))
