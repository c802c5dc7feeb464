"""The few types that several packages share (numpy only)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
"""Parameters by GluonCV's structural name, such as ``head.block.4.weight``."""

IGNORED = 255
"""The label of a pixel that is left out of loss and metrics; never a class id, since num_classes is at most 254."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of R, G, B (pixels / 255), GluonCV's, with which training and inference normalise."""

_LONGEST_NAME = 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_class_name(name: object) -> bool:
    """Return whether this is a valid name of a class: a string of 1 to 256 characters on one line, in any script."""
    return isinstance(name, str) and 1 <= len(name) <= _LONGEST_NAME and not _CONTROL.search(name)


@dataclass(frozen=True)
class Classes:
    """The names and the colours of a network's classes, by class id; None where a class has none.

    names: as `is_class_name` accepts; colors: 0xRRGGBB. Both have one entry for each class.
    """

    names: tuple[str | None, ...]
    colors: tuple[int | None, ...]

    @classmethod
    def unknown(cls, count: int) -> Classes:
        """This number of classes without names and colours."""
        return cls((None,) * count, (None,) * count)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def named(self) -> bool:
        """Whether any class has a name."""
        return any(name is not None for name in self.names)

    @property
    def colored(self) -> bool:
        """Whether any class has a colour."""
        return any(color is not None for color in self.colors)

    @property
    def titles(self) -> tuple[str, ...]:
        """What to call each class: its name, or `class 3`."""
        return tuple(unnamed(number) if name is None else name for number, name in enumerate(self.names))

    def completed(self, other: Classes) -> Classes:
        """These names and colours, and those of `other`, of as many classes, where a class has none here."""
        names = (theirs if mine is None else mine for mine, theirs in zip(self.names, other.names, strict=True))
        colors = (theirs if mine is None else mine for mine, theirs in zip(self.colors, other.colors, strict=True))
        return Classes(tuple(names), tuple(colors))


def unnamed(class_id: int) -> str:
    """What to call a class that has no name: `class 3`."""
    return f"class {class_id}"


@dataclass(frozen=True)
class Batch:
    """Images and their labels, not normalised: the device does that.

    images: uint8 (N, H, W, 3), RGB, 0 to 255.
    labels: uint8 (N, H, W), class ids, `IGNORED` where a pixel does not count.
    names: the images' files, for messages.
    """

    images: UInt8
    labels: UInt8
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class Prediction(Protocol):
    """A network's prediction for one image; everything is computed on demand."""

    def labels(self) -> UInt8:
        """Return the most probable class of each pixel: uint8 (H, W)."""
        ...

    def probabilities(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the softmax over the classes of each pixel: (C, H, W), 0 to 1, or as uint8 0 to 255."""
        ...

    def confidence(self, dtype: DTypeLike = np.float32) -> tuple[UInt8, NDArray[Any]]:
        """Return the labels, and the softmax of each pixel's label: (H, W), 0 to 1, or as uint8 0 to 255."""
        ...
