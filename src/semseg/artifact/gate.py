"""What a model_int8.onnx says int8 costs: the mIOU of its network with and without it, which decides on serving it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_FALL = 0.005
"""The mIOU may fall by so much, 0.5 points, and no more."""

_F32, _INT8, _PICTURES = "mIOU_f32", "mIOU_int8", "gate_pictures"


@dataclass(frozen=True)
class Gate:
    """The mIOU over all classes (as the built-in algorithm's), 0 to 1, of f32 and of int8, on so many images."""

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
    """Return the gate whose `metadata` is among a file's; None if there is none."""
    try:
        return Gate(float(metadata[_F32]), float(metadata[_INT8]), int(metadata[_PICTURES]))
    except (KeyError, ValueError):
        return None
