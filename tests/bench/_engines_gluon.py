"""The network of `_engines_network.py` in Gluon, with the attributes of GluonCV's FCN."""

from __future__ import annotations

from typing import Any

from _engines_network import CHANNELS, DILATIONS, DROPOUT, HEAD_CHANNELS

from semseg.engines.gluon import runtime

mx = runtime.load()
nn = mx.gluon.nn
HybridBlock: Any = mx.gluon.HybridBlock


def build(_: object, __: object, num_classes: int, device: Any) -> Any:
    """The network on a device, in the place of `engines.gluon.networks.build`; its parameters are still to be set."""
    model = FCN(num_classes)
    model.initialize(mx.init.Zero(), ctx=device)
    return model


class FCN(HybridBlock):  # type: ignore[misc]
    """The learner recognises networks by their class name, and calls the layers itself."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, CHANNELS, strides=2), nn.BatchNorm(in_channels=CHANNELS)
        self.relu, self.maxpool = nn.Activation("relu"), nn.MaxPool2D(3, 2, 1)
        for name, dilation in DILATIONS.items():
            setattr(self, name, _in_turn(*_normalised(CHANNELS, CHANNELS, dilation)))
        self.head, self.auxlayer = _head(num_classes), _head(num_classes)


def _head(num_classes: int) -> Any:
    last = nn.Conv2D(num_classes, 1, in_channels=HEAD_CHANNELS)
    return _in_turn(*_normalised(CHANNELS, HEAD_CHANNELS), nn.Dropout(DROPOUT), last)


def _normalised(inputs: int, outputs: int, dilation: int = 1) -> tuple[Any, ...]:
    convolution = _convolution(inputs, outputs, padding=dilation, dilation=dilation)
    return convolution, nn.BatchNorm(in_channels=outputs), nn.Activation("relu")


def _convolution(inputs: int, outputs: int, **settings: int) -> Any:
    return nn.Conv2D(outputs, 3, **{"padding": 1, **settings}, use_bias=False, in_channels=inputs)


def _in_turn(*layers: Any) -> Any:
    sequence = nn.HybridSequential()
    sequence.add(*layers)
    return sequence
