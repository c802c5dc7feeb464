"""Plain GluonCV, as its own documentation uses it: the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from semseg.engines.gluon import runtime

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
