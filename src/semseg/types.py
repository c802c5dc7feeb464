"""The few values that cross rooms (numpy only)."""

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
"""The label of a pixel that takes no part in loss or metrics; no class has this id (R24's num_classes <= 254)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of R, G, B from 0 to 1: pixels / 255 are normalised with them, in training and in inference alike (GluonCV's)."""


_LONGEST_NAME = 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_class_name(name: object) -> bool:
    """Whether this is what a class may be called: a text of 1 to 256 characters on one line, in any script."""
    return isinstance(name, str) and 1 <= len(name) <= _LONGEST_NAME and not _CONTROL.search(name)


@dataclass(frozen=True)
class Batch:
    """Pictures and their labels, not normalised: the device does that.

    images: uint8 (N, H, W, 3), RGB, 0 to 255.
    labels: uint8 (N, H, W), class ids, `IGNORED` where a pixel does not count.
    names: the pictures' files, for people.
    """

    images: UInt8
    labels: UInt8
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class Prediction(Protocol):
    """What a network says of one picture; nothing is computed before it is asked for."""

    def labels(self) -> UInt8:
        """The most probable class of each pixel: uint8 (H, W)."""
        ...

    def probabilities(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The softmax over the classes of each pixel: (C, H, W), 0 to 1, or as uint8 0 to 255."""
        ...

    def confidence(self, dtype: DTypeLike = np.float32) -> tuple[UInt8, NDArray[Any]]:
        """The labels, and the softmax of each pixel's label: (H, W), 0 to 1, or as uint8 0 to 255."""
        ...
