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


@pytest.fixture(scope="session")
def initialised(mx: Any, plain: Oracle) -> Oracle:
    """Builds a GluonCV network with its first values: Xavier's for the backbone, as its training has it."""

    def initialised(*args: Any, **kwargs: Any) -> Any:
        model = plain(*args, **kwargs)
        mx.random.seed(7)
        for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
            getattr(model, name).initialize(mx.init.Xavier())
        model.predict(mx.nd.zeros((1, 3, 32, 32)))  # settles the shapes
        return model

    return initialised


@pytest.fixture(scope="session")
def randomised(mx: Any, initialised: Oracle) -> Oracle:
    """Builds a GluonCV network of which no parameter and no running statistic is 0 or 1."""

    def randomised(*args: Any, **kwargs: Any) -> Any:
        model = initialised(*args, **kwargs)
        for name, parameter in model._collect_params_with_prefix().items():
            if name.endswith(("gamma", "running_var")):
                parameter.set_data(mx.nd.random.uniform(0.5, 1.5, shape=parameter.shape))
            elif name.endswith(("beta", "running_mean", "bias")):
                parameter.set_data(mx.nd.random.normal(0, 0.2, shape=parameter.shape))
        return model

    return randomised
