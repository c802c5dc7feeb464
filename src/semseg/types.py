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
