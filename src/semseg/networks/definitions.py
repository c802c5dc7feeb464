"""The six networks as ONNX graphs, up to their logits at an eighth of the picture's size.

The backbones are GluonCV's `resnet50_v1s` and `resnet101_v1s`, dilated; the heads are those of FCN (Long et al., 2015),
PSPNet (Zhao et al., 2017) and DeepLabV3 (Chen et al., 2017) as GluonCV builds and names them. Dropout and the auxiliary
head are left out: they are for training.
"""

from __future__ import annotations

import onnx

from semseg.networks.onnx import Graph, Tensor
from semseg.types import Arrays

_BLOCKS = {"resnet-50": (3, 4, 6, 3), "resnet-101": (3, 4, 23, 3)}
_STAGES = (("layer1", 64, 1, 1, 1), ("layer2", 128, 2, 1, 1), ("layer3", 256, 1, 1, 2), ("layer4", 512, 1, 2, 4))
"""Name, narrow channels, stride of the first block, dilation of the first block, dilation of the others."""

_GRIDS = (1, 2, 3, 6)
_RATES = (1, 12, 24, 36)


def build_graph(algorithm: str, backbone: str, num_classes: int, arrays: Arrays, origin: str) -> onnx.GraphProto:
    """The graph from `image`, normalised RGB float32 (N, 3, H, W), to `logits`, float32 (N, C, ceil(H/8), ceil(W/8)).

    algorithm: fcn, psp or deeplab; backbone: resnet-50 or resnet-101; arrays: parameters by GluonCV's structural name;
    `origin` names their file in errors. Raises ArtifactError when a parameter is missing, unknown or of another shape.
    """
    graph = Graph(arrays, origin)
    features = _backbone(graph, Tensor("image", 3), _BLOCKS[backbone])
    logits = _HEADS[algorithm](graph, features, num_classes)
    return graph.finish(logits, unused="auxlayer.")


def _backbone(graph: Graph, x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    x = graph.relu(graph.convolution(x, "conv1.0", 64, 3, stride=2, norm="conv1.1"))
    x = graph.relu(graph.convolution(x, "conv1.3", 64, 3, norm="conv1.4"))
    x = graph.relu(graph.convolution(x, "conv1.6", 128, 3, norm="bn1"))
    x = graph.max_pool(x)
    for (name, channels, stride, first_dilation, dilation), count in zip(_STAGES, blocks, strict=True):
        x = _bottleneck(graph, x, f"{name}.0", channels, stride, first_dilation)
        for number in range(1, count):
            x = _bottleneck(graph, x, f"{name}.{number}", channels, 1, dilation)
    return x


def _bottleneck(graph: Graph, x: Tensor, name: str, channels: int, stride: int, dilation: int) -> Tensor:
    """Three convolutions and a bypass, which is a convolution itself in the first block of a stage."""
    out = graph.relu(graph.convolution(x, f"{name}.conv1", channels, norm=f"{name}.bn1"))
    out = graph.convolution(out, f"{name}.conv2", channels, 3, stride=stride, dilation=dilation, norm=f"{name}.bn2")
    out = graph.convolution(graph.relu(out), f"{name}.conv3", 4 * channels, norm=f"{name}.bn3")
    if name.endswith(".0"):
        x = graph.convolution(x, f"{name}.downsample.0", 4 * channels, stride=stride, norm=f"{name}.downsample.1")
    return graph.relu(graph.add(out, x))


def _classifier(graph: Graph, x: Tensor, channels: int, num_classes: int) -> Tensor:
    x = graph.relu(graph.convolution(x, "head.block.0", channels, 3, norm="head.block.1"))
    return graph.convolution(x, "head.block.4", num_classes)


def _fcn(graph: Graph, x: Tensor, num_classes: int) -> Tensor:
    return _classifier(graph, x, 512, num_classes)


def _psp(graph: Graph, x: Tensor, num_classes: int) -> Tensor:
    levels = [x]
    for number, cells in enumerate(_GRIDS, 1):
        name = f"head.psp.conv{number}"
        level = graph.convolution(graph.adaptive_average(x, cells), f"{name}.0", 512, norm=f"{name}.1")
        levels.append(graph.stretch(graph.relu(level), like=x))
    return _classifier(graph, graph.concatenate(levels), 512, num_classes)


def _deeplab(graph: Graph, x: Tensor, num_classes: int) -> Tensor:
    name = "head.aspp.concurent"
    branches = [
        graph.relu(
            graph.convolution(x, f"{name}.{i}.0", 256, 1 if rate == 1 else 3, dilation=rate, norm=f"{name}.{i}.1")
        )
        for i, rate in enumerate(_RATES)
    ]
    pooled = graph.convolution(graph.global_average(x), f"{name}.4.gap.1", 256, norm=f"{name}.4.gap.2")
    branches.append(graph.spread(graph.relu(pooled), like=x))
    x = graph.convolution(graph.concatenate(branches), "head.aspp.project.0", 256, norm="head.aspp.project.1")
    return _classifier(graph, graph.relu(x), 256, num_classes)


_HEADS = {"fcn": _fcn, "psp": _psp, "deeplab": _deeplab}
