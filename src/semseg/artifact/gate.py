"""The measured mIOU of a network in float32 and in int8, which decides whether model_int8.onnx may be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_FALL = 0.005
"""The largest accepted loss of mIOU, 0.5 points."""

_F32, _INT8, _IMAGES = "mIOU_f32", "mIOU_int8", "gate_pictures"


@dataclass(frozen=True)
class Gate:
    """The mIOU over all classes (as the built-in algorithm's), 0 to 1, in float32 and in int8.

    images: the number of images it was measured on.
    """

    f32: float
    int8: float
    images: int

    @property
    def fall(self) -> float:
        """The mIOU that int8 loses."""
        return self.f32 - self.int8

    @property
    def passed(self) -> bool:
        """Whether int8 may be served."""
        return self.fall <= MAX_FALL

    def metadata(self) -> dict[str, str]:
        """Return the metadata for an ONNX file."""
        return {_F32: repr(self.f32), _INT8: repr(self.int8), _IMAGES: str(self.images)}

    def __str__(self) -> str:
        return f"mIOU {self.int8:.4f} in int8, {self.f32:.4f} in f32, on {self.images} images"


def read_gate(metadata: Mapping[str, str]) -> Gate | None:
    """Return the gate in the metadata of an ONNX file; None if there is none."""
    try:
        return Gate(float(metadata[_F32]), float(metadata[_INT8]), int(metadata[_IMAGES]))
    except (KeyError, ValueError):
        return None
