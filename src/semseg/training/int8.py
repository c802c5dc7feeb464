"""The last step of a training job that asks for it: an int8 network in the artifact, if that is as good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from semseg.artifact.model_dir import INT8, describe
from semseg.data.pairs import evenly
from semseg.errors import Stopped
from semseg.reporting.events import Emit, Quantized
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.extras import complete_without
from semseg.training.inputs import Input, whole_pictures
from semseg.types import Batch


def quantize_model(
    directory: Path, inputs: tuple[Input, Input], settings: Hyperparameters, stop: Callable[[], bool], emit: Emit
) -> None:
    """Write model_int8.onnx of the parameters that would be served, if it passes its gate, and emit what that found.

    inputs: listed ones. The trained model stays as it is, whatever fails; a warning is logged then. Once `stop()` is
    true there will be no int8.
    """
    from semseg.exporting import int8  # here: what it needs is only for this

    def pictures(one: Input, count: int) -> Iterator[Batch]:
        pairs = evenly(one.listing.pairs if one.listing else (), count)
        return whole_pictures(pairs, one, settings, stop)

    train, validation = inputs
    with complete_without(INT8):
        if stop():
            raise Stopped
        gate = int8.quantize(
            describe(directory),
            directory / INT8,
            (batch.images[0] for batch in pictures(train, int8.CALIBRATION_PICTURES)),
            lambda: ((batch.images[0], batch.labels[0]) for batch in pictures(validation, int8.VALIDATION_PICTURES)),
        )
        emit(Quantized(gate.f32, gate.int8, gate.images, gate.passed))
