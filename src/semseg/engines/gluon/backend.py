"""Runs a trained network for inference."""

from __future__ import annotations

from typing import Any

from semseg.engines.gluon import faults, networks, runtime
from semseg.types import Arrays, Float32


class GluonBackend:
    """A network on one device that turns pictures into logits; the auxiliary head is neither kept nor run."""

    def __init__(self, model: Any, device: Any) -> None:
        self._device = device
        self._network = networks.LowResolutionLogits(model)
        self._network.hybridize()

    @faults.translated(faults.SERVING)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/8), ceil(W/8)), any H and W.

        Raises DeviceMemoryError when the GPU's memory is too small.
        """
        (result,) = self._network(runtime.to_device(images, self._device))
        logits: Float32 = result.asnumpy()
        return logits


@faults.translated(faults.SERVING)
def load_backend(
    algorithm: str, backbone: str, num_classes: int, arrays: Arrays, origin: str, device: Any = None
) -> GluonBackend:
    """Return the network with the parameters of a file.

    arrays: parameters by GluonCV's structural name; `origin` names their file in errors. device: a context of MXNet's;
    None for the first GPU, or else the CPU.
    Raises ArtifactError when a parameter is missing, unknown or of another shape, DeviceMemoryError when the GPU's
    memory is too small.
    """
    device = device or runtime.devices()[0]
    model = networks.build(algorithm, backbone, num_classes, device, aux=False)
    needed = {name: array for name, array in arrays.items() if not name.startswith(networks.AUXILIARY)}
    networks.assign(networks.parameters(model), needed, origin)
    return GluonBackend(model, device)
