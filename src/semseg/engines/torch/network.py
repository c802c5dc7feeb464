"""A segmentation network as a PyTorch module, made from its definition.

Its leaves are ordinary convolutions and batch normalisations, nested by the dotted names of GluonCV's parameters,
so that PyTorch's own tools (distributed training, compilation) find a module like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from semseg.engines.torch.batch_norm import BatchNorm
from semseg.engines.torch.interpolation import resize
from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import EPSILON, Parameter, parameter_table, require_fit
from semseg.types import Arrays

_MOMENTUM = 0.1
"""The weight of a batch in the running statistics; what MXNet calls its momentum is 1 minus this."""

_ATTRIBUTES = {"gamma": "weight", "beta": "bias"}
"""PyTorch's names of a layer's parameters, where they differ from GluonCV's."""


class TorchNetwork(nn.Module):  # type: ignore[misc]
    """A network that computes logits from normalised images. All its values are 0 until `assign` sets them.

    Convolutions and images are in the memory format `channels_last`, the fastest on CPUs, and on GPUs in half
    precision. auxiliary: whether it has the auxiliary head, which only serves training.
    """

    def __init__(self, network: Network, backbone: Backbone, num_classes: int, auxiliary: bool) -> None:
        super().__init__()
        self._build = network.build
        self._backbone = backbone
        self._num_classes = num_classes
        self.table = parameter_table(network, backbone, num_classes, auxiliary)
        with torch.device("meta"):  # PyTorch's random initial values would be drawn for nothing
            for name, parameter in self.table.items():
                self._add_layer_of(name, parameter)
        self.to_empty(device="cpu")
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.detach().zero_()
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, auxiliary: bool = False) -> tuple[Tensor, ...]:
        """Normalised RGB (N, 3, H, W) -> logits (N, classes, ceil(H/stride), ceil(W/stride)), for any H and W from 1.

        auxiliary: whether to return the logits of the auxiliary head too, after the main head's.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        logits, extra = self._build(_TorchLayers(self), images, self._backbone, self._num_classes, auxiliary)
        return (logits,) if extra is None else (logits, extra)

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters and running statistics themselves, by GluonCV's structural name."""
        found = {}
        for name in self.table:
            path, _, kind = name.rpartition(".")
            found[name] = getattr(attrgetter(path)(self), _ATTRIBUTES.get(kind, kind))
        return found

    def _add_layer_of(self, name: str, parameter: Parameter) -> None:
        """Add the layer that a parameter is the first of."""
        path, _, kind = name.rpartition(".")
        if kind == "weight":
            outputs, inputs, kernel, _ = parameter.shape
            self._add(path, _Convolution(inputs, outputs, kernel, bias=f"{path}.bias" in self.table))
        elif kind == "gamma":
            self._add(path, BatchNorm(*parameter.shape, eps=EPSILON, momentum=_MOMENTUM))

    def _add(self, path: str, layer: nn.Module) -> None:
        *parents, last = path.split(".")
        node: nn.Module = self
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, nn.Module())
            node = node.get_submodule(parent)
        node.add_module(last, layer)


def arrays_of(tensors: dict[str, Tensor]) -> Arrays:
    """Return copies of tensors as arrays on the host, in their dtypes; waits for the device."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).numpy()
        for name, tensor in tensors.items()
    }


def assign(tensors: dict[str, Tensor], arrays: Arrays, origin: str) -> None:
    """Give each tensor the array of its name, converted to the tensor's dtype.

    Raises ArtifactError, naming `origin`, when names or shapes differ; nothing is assigned then.
    """
    require_fit(tensors, arrays, origin)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.require(arrays[name], requirements="W")))  # it warns of read-only memory


class _Convolution(nn.Conv2d):  # type: ignore[misc]
    """A convolution with the stride and dilation of the call, padded so that only its stride reduces the size."""

    def forward(self, x: Tensor, stride: int, dilation: int) -> Tensor:
        padding = dilation * (self.kernel_size[0] // 2)
        return functional.conv2d(x, self.weight, self.bias, stride, padding, dilation)


class _TorchLayers:
    """Layers that compute at once, with the layers of a module by their dotted names."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def convolution(
        self,
        x: Tensor,
        name: str,
        channels: int,  # noqa: ARG002 the layer has it
        kernel: int = 1,  # noqa: ARG002
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "",
    ) -> Tensor:
        x = self._layer(name)(x, stride, dilation)
        return self._layer(norm)(x) if norm else x

    def relu(self, x: Tensor) -> Tensor:
        return functional.relu(x)

    def add(self, first: Tensor, second: Tensor, /) -> Tensor:
        return first + second

    def concatenate(self, values: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(values), dim=1)

    def max_pool(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2, 1)

    def global_average(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def adaptive_average(self, x: Tensor, cells: int) -> Tensor:
        return functional.adaptive_avg_pool2d(x, cells)

    def spread(self, x: Tensor, like: Tensor) -> Tensor:
        return x.expand(-1, -1, *like.shape[2:])

    def stretch(self, x: Tensor, like: Tensor) -> Tensor:
        resized = resize(x, *like.shape[2:]).to(x.dtype)
        return resized.contiguous(memory_format=torch.channels_last)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        return functional.dropout(x, rate, self._module.training)

    def _layer(self, name: str) -> Any:
        return attrgetter(name)(self._module)
