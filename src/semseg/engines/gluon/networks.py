"""Builds GluonCV's segmentation networks, and runs their layers at any image size.

GluonCV bakes the size of its upsampling into the hybridized graph. `LowResolutionLogits` calls the same layers and
resizes "like" another tensor instead, so that one graph serves every size, with the same results as `predict`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from semseg.engines.gluon import runtime
from semseg.errors import UserError
from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import require_fit
from semseg.types import Arrays

mx = runtime.load()
HybridBlock: Any = mx.gluon.HybridBlock

_CLASSES = {"fcn": "FCN", "psp": "PSPNet", "deeplab": "DeepLabV3"}
_BACKBONES = {"resnet-50": "resnet50", "resnet-101": "resnet101"}
"""GluonCV's names of the networks and the backbones."""

_UP_TO_C3 = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")


class LowResolutionLogits(HybridBlock):  # type: ignore[misc]
    """The layers of a GluonCV network up to its logits, before the final upsampling.

    Normalised RGB float32 (N, 3, H, W) -> a list of (N, classes, ceil(H/8), ceil(W/8)): the head's and, with `aux`,
    the auxiliary head's. The layers are shared with the model: this block has no parameters of its own.
    tuned: whether cuDNN times its algorithms for the graph and takes the fastest, which pays if it has one shape.
    """

    def __init__(self, model: Any, aux: bool = False, tuned: bool = False) -> None:
        super().__init__()
        self._tuned = tuned
        self._apply_head = _APPLY[type(model).__name__]
        self.to_c3 = mx.gluon.nn.HybridSequential()
        self.to_c3.add(*(getattr(model, name) for name in _UP_TO_C3))
        self.to_c4 = model.layer4
        self.head = model.head
        self.auxlayer = model.auxlayer if aux else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        with _tuning(self) if self._tuned else contextlib.nullcontext():
            c3 = self.to_c3(x)
            logits = self._apply_head(F, self.head, self.to_c4(c3))
            return [logits] if self.auxlayer is None else [logits, self.auxlayer(c3)]


@contextlib.contextmanager
def _tuning(block: Any) -> Iterator[None]:
    """Make convolutions use cuDNN's fastest algorithm, in the graph that is made of `block` within this context.

    This is an attribute of the operator, which other graphs of the same layers do not get; CPUs ignore it.
    """
    convolutions: list[Any] = []
    block.apply(lambda layer: convolutions.append(layer) if isinstance(layer, mx.gluon.nn.Conv2D) else None)
    for layer in convolutions:
        layer._kwargs["cudnn_tune"] = "limited_workspace"  # MXNet's default, for every size
    try:
        yield
    finally:
        for layer in convolutions:
            layer._kwargs.pop("cudnn_tune", None)


def _fcn(F: Any, head: Any, c4: Any) -> Any:  # noqa: ARG001 the three have one signature
    return head(c4)


def _psp(F: Any, head: Any, c4: Any) -> Any:
    pyramid = head.psp
    levels = [
        resize_like(F, conv(F.contrib.AdaptiveAvgPooling2D(c4, output_size=size)), c4)
        for conv, size in ((pyramid.conv1, 1), (pyramid.conv2, 2), (pyramid.conv3, 3), (pyramid.conv4, 6))
    ]
    return head.block(F.concat(c4, *levels, dim=1))


def _deeplab(F: Any, head: Any, c4: Any) -> Any:
    branches = head.aspp.concurent
    pooling = branches[len(branches) - 1]
    convolved = [branches[i](c4) for i in range(len(branches) - 1)]
    pooled = resize_like(F, pooling.gap(c4), c4)
    return head.block(head.aspp.project(F.concat(*convolved, pooled, dim=1)))


_APPLY = {"FCN": _fcn, "PSPNet": _psp, "DeepLabV3": _deeplab}


def resize_like(F: Any, x: Any, like: Any) -> Any:
    """Stretch (N, C, h, w) to the height and width of `like`, bilinearly with aligned corners as BilinearResize2D.

    Computed as two products with interpolation matrices, because the gradient of MXNet's own operator depends on the
    order of its threads, so that no two trainings would be alike.
    """
    tall = F.dot(F.transpose(x, (0, 1, 3, 2)), _interpolation(F, x, like, 2))
    return F.dot(F.transpose(tall, (0, 1, 3, 2)), _interpolation(F, x, like, 3))


def _interpolation(F: Any, x: Any, like: Any, axis: int) -> Any:
    """The weight of each source position (row) in each target position (column) of an axis: max(0, 1 - distance)."""
    source = F.contrib.arange_like(x, axis=axis)
    target = F.contrib.arange_like(like, axis=axis)
    scale = F.broadcast_div(F.max(source), F.maximum(F.max(target), 1))
    distance = F.broadcast_sub(F.expand_dims(source, 1), F.expand_dims(F.broadcast_mul(target, scale), 0))
    return F.BlockGrad(F.relu(1 - F.abs(distance)))


def build(network: Network, backbone: Backbone, num_classes: int, device: Any, aux: bool = True) -> Any:
    """Return a GluonCV network, whose parameters are still to be assigned.

    device: an MXNet context, or a list of several, each of which gets a copy of the parameters. aux: with the auxiliary
    head, without which plain GluonCV cannot read a saved file. Raises UserError for a network that GluonCV does not
    have.
    """
    from gluoncv import model_zoo

    if network.name not in _CLASSES or backbone.name not in _BACKBONES:
        raise UserError(
            f"MXNet does not compute {network.title} on {backbone.title}: GluonCV has no such network.",
            f"It has {', '.join(_CLASSES)} on {' and '.join(_BACKBONES)}. SEMSEG_BACKEND=openvino serves this network.",
        )
    with contextlib.redirect_stdout(io.StringIO()):  # PSPNet prints its crop size; stdout carries the metric lines
        model = getattr(model_zoo, _CLASSES[network.name])(
            num_classes, _BACKBONES[backbone.name], aux=aux, ctx=device, pretrained_base=False, crop_size=64
        )
    LowResolutionLogits(model, aux).infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    for stage in (*_UP_TO_C3, "layer4"):
        getattr(model, stage).initialize(mx.init.Zero(), ctx=device)
    return model


def parameters(model: Any) -> dict[str, Any]:
    """Return the model's parameters by the structural names that its files use."""
    named: dict[str, Any] = model._collect_params_with_prefix()
    return named


def assign(targets: dict[str, Any], arrays: Arrays, origin: str) -> None:
    """Give each parameter of `targets`, on all its devices, the array of its name, converted to the parameter's dtype.

    Raises ArtifactError, naming `origin`, when names or shapes differ; nothing is assigned then.
    """
    require_fit(targets, arrays, origin)
    for name, target in targets.items():
        # through the device: weights that an inference has left in oneDNN's layout cannot be set from the host
        target.set_data(runtime.to_device(arrays[name], target.list_ctx()[0]).astype(target.dtype, copy=False))
