"""Plain GluonCV, as its own documentation uses it: the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import runtime
from semseg.types import IGNORED, Batch

Oracle = Callable[..., Any]


@pytest.fixture(scope="session")
def mx() -> Any:
    return runtime.load()


@pytest.fixture(scope="session")
def plain(mx: Any) -> Oracle:
    """Builds an uninitialised GluonCV network: `plain("psp", "resnet-50", 3)`."""
    from gluoncv import model_zoo

    def plain(algorithm: str, backbone: str, classes: int, **kwargs: Any) -> Any:
        network = {"fcn": model_zoo.FCN, "psp": model_zoo.PSPNet, "deeplab": model_zoo.DeepLabV3}[algorithm]
        return network(classes, backbone=backbone.replace("-", ""), pretrained_base=False, **kwargs)

    return plain


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Three images of 32 x 32 with 4 classes; half of the pixels are ignored.

    PSP pools each image to one pixel, and two values would be too few to normalise.
    """
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (3, 32, 32)).astype(np.uint8)
    labels[:, ::2] = IGNORED
    return Batch(rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8), labels)
