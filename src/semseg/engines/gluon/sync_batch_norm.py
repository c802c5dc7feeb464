"""Runs a network on several devices at once, with the batch normalisation of the whole batch.

MXNet's own SyncBatchNorm averages the means of the devices, which is wrong for parts of different sizes, and makes each
device wait for all others, for ever for one that has no part; on CPUs its gradient deadlocks. Here the statistics are
ordinary operations between the devices: no thread waits for another, and MXNet derives the gradient. The layers are the
network's own, so that its parameters and files stay what they are.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semseg.engines.gluon import runtime

mx = runtime.load()

_IMAGES = "data"


@dataclass(frozen=True)
class _Node:
    """A node of a network's graph.

    operator: None for a variable, which is a parameter or the images. inputs: the nodes that it computes from, by their
    index. done: those that no later node needs.
    """

    name: str
    operator: str | None
    settings: Mapping[str, Any]
    inputs: tuple[int, ...]
    done: tuple[int, ...]


class SynchronisedNetwork:
    """A network in training on several devices; its running statistics are updated on the first one only."""

    def __init__(self, block: Any) -> None:
        """block: a HybridBlock that has parameters on all devices, and returns a list of outputs."""
        graph = json.loads(mx.sym.Group(block(mx.sym.var(_IMAGES))).tojson())
        self._outputs = tuple(index for index, *_ in graph["heads"])
        self._nodes = _nodes(graph["nodes"], self._outputs)
        self._parameters = {value.name: value for value in block.collect_params().values()}

    def __call__(self, images: Sequence[Any]) -> list[list[Any]]:
        """Return the block's outputs for each device's images, normalised RGB (N, 3, H, W); N may differ."""
        values: dict[int, Sequence[Any]] = {}
        for index, node in enumerate(self._nodes):
            inputs = [values[one] for one in node.inputs]
            if node.operator is None:
                values[index] = images if node.name == _IMAGES else self._copies(node.name, images)
            elif node.operator == "BatchNorm" and not node.settings["use_global_stats"]:
                values[index] = _normalised(inputs, node.settings)
            else:
                compute = _function(node.operator)
                values[index] = [compute(*own, **node.settings) for own in zip(*inputs, strict=True)]
            for one in node.done:
                del values[one]
        return [[values[index][part] for index in self._outputs] for part in range(len(images))]

    def _copies(self, name: str, images: Sequence[Any]) -> list[Any]:
        """The parameter of a name on each device."""
        return [self._parameters[name].data(part.context) for part in images]


def _nodes(listed: list[dict[str, Any]], outputs: tuple[int, ...]) -> list[_Node]:
    """The nodes of a graph in MXNet's JSON, each after those that it computes from."""
    inputs = [tuple(index for index, *_ in node["inputs"]) for node in listed]
    last = {one: index for index, given in enumerate(inputs) for one in given}
    done = [tuple({one for one in given if last[one] == i and one not in outputs}) for i, given in enumerate(inputs)]
    return [
        _Node(
            node["name"],
            None if node["op"] == "null" else node["op"],
            {key: _value(text) for key, text in node.get("attrs", {}).items() if not key.startswith("__")},
            *its,
        )
        for node, *its in zip(listed, inputs, done, strict=True)
    ]


def _value(text: str) -> Any:
    """A setting as a number, boolean or tuple where it is one, else its text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _function(operator: str) -> Callable[..., Any]:
    """The function that applies an operator to arrays."""
    public = operator.removeprefix("_contrib_")
    modules = (mx.nd.contrib,) if public != operator else (mx.nd.op, mx.nd._internal)
    found: Callable[..., Any] = next(getattr(one, public) for one in modules if hasattr(one, public))
    return found


def _normalised(inputs: Sequence[Sequence[Any]], settings: Mapping[str, Any]) -> list[Any]:
    """A BatchNorm layer's outputs on each device.

    inputs: the layer's on each device, which are parts (N, C, H, W), of which N may differ; gammas, betas, and the
    running means and variances, (C,).
    """
    parts, gammas, betas, running_means, running_variances = inputs
    sizes = [part.size // part.shape[1] for part in parts]
    mean, variance = _statistics(parts, sizes)
    with mx.autograd.pause():
        # the variance of GPUs (cuDNN) is unbiased, that of MXNet on CPUs is not
        count = sum(sizes)
        correction = count / max(1, count - 1) if mean.context.device_type == "gpu" else 1
        _follow(running_means[0], mean, settings["momentum"])
        _follow(running_variances[0], variance * correction, settings["momentum"])
    outputs = []
    for part, gamma, beta in zip(parts, gammas, betas, strict=True):
        own_mean, own_variance = mean.as_in_context(part.context), variance.as_in_context(part.context)
        scale = (1 if settings["fix_gamma"] else gamma) * mx.nd.rsqrt(own_variance + settings["eps"])
        shift = beta - own_mean * scale
        scaled = mx.nd.broadcast_mul(part, scale.reshape((1, -1, 1, 1)))
        outputs.append(mx.nd.broadcast_add(scaled, shift.reshape((1, -1, 1, 1))))
    return outputs


def _statistics(parts: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, Any]:
    """The mean and the biased variance of each channel over all parts, (C,) on the first device.

    sizes: the values of a channel in each part. The variance is that within the parts plus that of their means, not the
    difference of two sums of squares, which would lose digits.
    """
    first, shares = parts[0].context, [size / sum(sizes) for size in sizes]
    moments = [mx.nd.moments(part, axes=(0, 2, 3)) for part in parts]
    means, variances = ([one.as_in_context(first) for one in kind] for kind in zip(*moments, strict=True))
    mean = sum(share * one for share, one in zip(shares, means, strict=True))
    deviations = [variance + mx.nd.square(one - mean) for variance, one in zip(variances, means, strict=True)]
    return mean, sum(share * one for share, one in zip(shares, deviations, strict=True))


def _follow(running: Any, value: Any, momentum: float) -> None:
    """Move a running statistic towards a batch's value."""
    running[:] = momentum * running + (1 - momentum) * value
