"""What int8 costs: the mIOU of a network with and without it, on the same pictures and the same engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.inference.predictor import Predictor
from semseg.types import UInt8

MAX_FALL = 0.005
"""The mIOU may fall by so much, 0.5 points, and no more."""

_F32, _INT8, _PICTURES = "mIOU_f32", "mIOU_int8", "gate_pictures"

Labelled = tuple[UInt8, UInt8 | None]
"""A picture, RGB uint8 (H, W, 3), and its labels, uint8 (H, W), None if nobody knows them."""


@dataclass(frozen=True)
class Gate:
    """The mIOU over all classes (the original's), 0 to 1, of the network in f32 and in int8, on so many pictures."""

    f32: float
    int8: float
    pictures: int

    @property
    def fall(self) -> float:
        """What int8 loses."""
        return self.f32 - self.int8

    @property
    def passed(self) -> bool:
        """Whether int8 may be served."""
        return self.fall <= MAX_FALL

    def metadata(self) -> dict[str, str]:
        """As texts, for an ONNX file."""
        return {_F32: repr(self.f32), _INT8: repr(self.int8), _PICTURES: str(self.pictures)}

    def __str__(self) -> str:
        return f"mIOU {self.int8:.4f} in int8, {self.f32:.4f} in f32, on {self.pictures} pictures"


def read_gate(metadata: Mapping[str, str]) -> Gate | None:
    """The gate whose `metadata` a file has; None if it has none."""
    try:
        return Gate(float(metadata[_F32]), float(metadata[_INT8]), int(metadata[_PICTURES]))
    except (KeyError, ValueError):
        return None


def compare(f32: Predictor, int8: Predictor, pictures: Iterable[Labelled]) -> Gate:
    """Let both predict whole pictures, as in serving. Where there are no labels, those of f32 are the truth."""
    exact, rounded = ConfusionMatrix(f32.num_classes), ConfusionMatrix(f32.num_classes)
    count = 0
    for image, labels in pictures:
        found = f32.predict(image).labels()
        truth = found if labels is None else labels
        exact.update(truth, found)
        rounded.update(truth, int8.predict(image).labels())
        count += 1
    return Gate(exact.mean_iou(), rounded.mean_iou(), count)
