"""Declares each network once: its names and its layers. Every other list of networks is derived from this module.

The backbones are GluonCV's `resnet50_v1s` and `resnet101_v1s`, dilated; the heads are those of FCN (Long et al., 2015),
PSPNet (Zhao et al., 2017) and DeepLabV3 (Chen et al., 2017) as GluonCV builds and names them. Any head runs on any
backbone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from semseg.networks.layers import Layers, T

AUXILIARY = "auxlayer."
"""The prefix of the auxiliary head's parameters. It only serves training: files may lack them."""


class Stages(Protocol):
    """The layers of a backbone."""

    def __call__(self, layers: Layers[T], image: T) -> Sequence[T]:
        """Normalised RGB (N, 3, H, W) -> the output of each stage, from the finest to the deepest."""
        ...


class Head(Protocol):
    """The layers of a network after its backbone."""

    def __call__(self, layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
        """The output of each stage of the backbone -> logits (N, num_classes, ceil(H/stride), ceil(W/stride))."""
        ...


@dataclass(frozen=True)
class Backbone:
    """An encoder.

    name: the value of the hyperparameter `backbone`; title: for messages.
    """

    name: str
    title: str
    stages: Stages


@dataclass(frozen=True)
class Network:
    """A segmentation network, which runs on any backbone with the stages it needs.

    name: the value of the hyperparameter `algorithm`; title: for messages; head: computes the logits; auxiliary:
    computes additional logits for training, None if there are none; classifier: the name of the layer with one output
    channel per class; stride: image pixels per position of the logits, in height and width.
    bytes_per_pixel: the network's peak memory per image pixel, by engine, in f32; an engine that is left out does not
    run the network. [Measured on images of two sizes: the peak of the process's resident memory (VmHWM, after writing 5
    to /proc/self/clear_refs) for the one minus that for the other, over the difference in pixels. The two backbones
    differ little.]
    """

    name: str
    title: str
    head: Head
    auxiliary: Head | None
    classifier: str
    stride: int
    bytes_per_pixel: Mapping[str, int]

    def build(
        self, layers: Layers[T], image: T, backbone: Backbone, num_classes: int, auxiliary: bool
    ) -> tuple[T, T | None]:
        """Build the network; returns its logits and, if `auxiliary` and there is one, those of the auxiliary head."""
        stages = backbone.stages(layers, image)
        logits = self.head(layers, stages, num_classes)
        return logits, self.auxiliary(layers, stages, num_classes) if auxiliary and self.auxiliary else None


_STAGES = (("layer1", 64, 1, 1, 1), ("layer2", 128, 2, 1, 1), ("layer3", 256, 1, 1, 2), ("layer4", 512, 1, 2, 4))
"""Name, bottleneck channels, stride of the first block, dilation of the first block, dilation of the others."""

_GRIDS = (1, 2, 3, 6)
_RATES = (1, 12, 24, 36)


def _resnet(layers: Layers[T], image: T, blocks: Sequence[int]) -> Sequence[T]:
    """A ResNet (He et al., 2016) that begins with three convolutions and is dilated from its third stage on.

    blocks: their number in each stage. The stages have strides 4, 8, 8, 8 and channels 256, 512, 1024, 2048.
    """
    x = layers.relu(layers.convolution(image, "conv1.0", 64, 3, stride=2, norm="conv1.1"))
    x = layers.relu(layers.convolution(x, "conv1.3", 64, 3, norm="conv1.4"))
    x = layers.relu(layers.convolution(x, "conv1.6", 128, 3, norm="bn1"))
    x = layers.max_pool(x)
    stages = []
    for (name, channels, stride, first_dilation, dilation), count in zip(_STAGES, blocks, strict=True):
        x = _bottleneck(layers, x, f"{name}.0", channels, stride, first_dilation)
        for number in range(1, count):
            x = _bottleneck(layers, x, f"{name}.{number}", channels, 1, dilation)
        stages.append(x)
    return stages


def _bottleneck(layers: Layers[T], x: T, name: str, channels: int, stride: int, dilation: int) -> T:
    """Three convolutions and a shortcut, which is itself a convolution in the first block of a stage."""
    out = layers.relu(layers.convolution(x, f"{name}.conv1", channels, norm=f"{name}.bn1"))
    out = layers.convolution(out, f"{name}.conv2", channels, 3, stride=stride, dilation=dilation, norm=f"{name}.bn2")
    out = layers.convolution(layers.relu(out), f"{name}.conv3", 4 * channels, norm=f"{name}.bn3")
    if name.endswith(".0"):
        x = layers.convolution(x, f"{name}.downsample.0", 4 * channels, stride=stride, norm=f"{name}.downsample.1")
    return layers.relu(layers.add(out, x))


def _fully_convolutional(layers: Layers[T], x: T, name: str, channels: int, num_classes: int) -> T:
    x = layers.relu(layers.convolution(x, f"{name}.0", channels, 3, norm=f"{name}.1"))
    return layers.convolution(layers.dropout(x, 0.1), f"{name}.4", num_classes)


def _auxiliary(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    return _fully_convolutional(layers, stages[-2], f"{AUXILIARY}block", 256, num_classes)


def _fcn(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    return _fully_convolutional(layers, stages[-1], "head.block", 512, num_classes)


def _psp(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    x = stages[-1]
    levels = [x]
    for number, cells in enumerate(_GRIDS, 1):
        name = f"head.psp.conv{number}"
        level = layers.convolution(layers.adaptive_average(x, cells), f"{name}.0", 512, norm=f"{name}.1")
        levels.append(layers.stretch(layers.relu(level), like=x))
    return _fully_convolutional(layers, layers.concatenate(levels), "head.block", 512, num_classes)


def _deeplab(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    x, name = stages[-1], "head.aspp.concurent"
    branches = [
        layers.relu(
            layers.convolution(x, f"{name}.{i}.0", 256, 1 if rate == 1 else 3, dilation=rate, norm=f"{name}.{i}.1")
        )
        for i, rate in enumerate(_RATES)
    ]
    pooled = layers.convolution(layers.global_average(x), f"{name}.4.gap.1", 256, norm=f"{name}.4.gap.2")
    branches.append(layers.spread(layers.relu(pooled), like=x))
    x = layers.convolution(layers.concatenate(branches), "head.aspp.project.0", 256, norm="head.aspp.project.1")
    return _fully_convolutional(layers, layers.dropout(layers.relu(x), 0.5), "head.block", 256, num_classes)


BACKBONES = (
    Backbone("resnet-50", "ResNet-50", partial(_resnet, blocks=(3, 4, 6, 3))),
    Backbone("resnet-101", "ResNet-101", partial(_resnet, blocks=(3, 4, 23, 3))),
)
NETWORKS = (
    Network("fcn", "FCN", _fcn, _auxiliary, "head.block.4", 8, {"mxnet": 1000, "openvino": 370, "torch": 750}),
    Network("psp", "PSP", _psp, _auxiliary, "head.block.4", 8, {"mxnet": 1400, "openvino": 700, "torch": 850}),
    Network(
        "deeplab", "DeepLabV3", _deeplab, _auxiliary, "head.block.4", 8, {"mxnet": 1050, "openvino": 400, "torch": 750}
    ),
)
"""The first three are the built-in algorithm's, in the order of its documentation."""

Named = TypeVar("Named", Backbone, Network)


def by_name(name: str, declared: Iterable[Named]) -> Named:
    """Return the network or backbone with a name. Raises KeyError if none has it."""
    return {entry.name: entry for entry in declared}[name]


def titles(declared: Iterable[Backbone] | Iterable[Network], word: str = "or") -> str:
    """Return the titles as part of a sentence: ``FCN, PSP or DeepLabV3``."""
    return listed([entry.title for entry in declared], word)


def listed(words: Sequence[str], word: str) -> str:
    """Return one or more words as part of a sentence: ``a, b and c`` if `word` is ``and``."""
    *others, last = words
    return f"{', '.join(others)} {word} {last}" if others else last
