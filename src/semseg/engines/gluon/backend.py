"""Runs a trained network with MXNet for inference."""

from __future__ import annotations

from typing import Any

from semseg.engines.gluon import faults, networks, runtime
from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import without_auxiliary
from semseg.types import Arrays, Float32


class GluonBackend:
    """A network on one device that computes logits from images, without the auxiliary head."""

    def __init__(self, model: Any, network: Network, device: Any) -> None:
        """model: the network as GluonCV's class; device: the MXNet context that it is on."""
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["mxnet"]
        self.precision = "f32"
        self._device = device
        self._layers = networks.LowResolutionLogits(model)
        self._layers.hybridize()

    @faults.translated(faults.SERVING_HINT)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/8), ceil(W/8)), any H and W.

        Raises DeviceMemoryError when the GPU's memory is too small.
        """
        (result,) = self._layers(runtime.to_device(images, self._device))
        logits: Float32 = result.asnumpy()
        return logits

    def device_memory(self) -> int | None:
        """Return the free bytes of the GPU; None on a CPU."""
        return runtime.device_memory(self._device)


@faults.translated(faults.SERVING_HINT)
def load_backend(
    network: Network, backbone: Backbone, num_classes: int, arrays: Arrays, origin: str, device: Any
) -> GluonBackend:
    """Return the network with the parameters of a file.

    arrays: parameters by GluonCV's structural name; `origin` names their file in errors. device: an MXNet context.
    Raises ArtifactError when a parameter is missing, unknown or of another shape, UserError for a network that GluonCV
    does not have, DeviceMemoryError when the GPU's memory is too small.
    """
    model = networks.build(network, backbone, num_classes, device, aux=False)
    networks.assign(networks.parameters(model), without_auxiliary(arrays), origin)
    return GluonBackend(model, network, device)
