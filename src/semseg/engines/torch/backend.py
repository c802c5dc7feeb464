"""Runs a trained network with PyTorch for inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from semseg.engines.torch import faults, runtime
from semseg.engines.torch.network import TorchNetwork, assign
from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import without_auxiliary
from semseg.types import Arrays, Float32


class TorchBackend:
    """A network on one device that computes logits from images.

    cuDNN chooses its algorithms by heuristics, so that a size seen for the first time is not timed, and an answer does
    not depend on what was computed before.
    """

    def __init__(self, model: TorchNetwork, network: Network, device: Any, bf16: bool) -> None:
        """model: without the auxiliary head; device: a torch.device; bf16: whether convolutions compute in bfloat16."""
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["torch"]
        self.precision = "bf16" if bf16 else "f32"
        self._device = device
        self._bf16 = bf16
        self._model = model.eval().to(device)
        if bf16:  # or autocast would convert the weights for each image
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.to(torch.bfloat16)

    @faults.translated(faults.SERVING_HINT)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/stride), ceil(W/stride)), any H and W.

        Raises DeviceMemoryError when the GPU's memory is too small.
        """
        on_host = torch.from_numpy(np.require(images, requirements=["C", "W"]))
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            (result,) = self._model(on_host.to(self._device))
        logits: Float32 = result.to("cpu", torch.float32).contiguous().numpy()
        return logits

    @faults.translated(faults.SERVING_HINT)
    def device_memory(self) -> int | None:
        """Return the free bytes of the GPU; None on a CPU."""
        return runtime.device_memory(self._device)


@faults.translated(faults.SERVING_HINT)
def load_backend(
    network: Network, backbone: Backbone, num_classes: int, arrays: Arrays, origin: str, device: Any, bf16: bool
) -> TorchBackend:
    """Return the network with the parameters of a file.

    arrays: parameters by GluonCV's structural name; `origin` names their file in errors. device: a torch.device.
    Raises ArtifactError when a parameter is missing, unknown or of another shape, DeviceMemoryError when the GPU's
    memory is too small.
    """
    model = TorchNetwork(network, backbone, num_classes, auxiliary=False)
    assign(model.tensors(), without_auxiliary(arrays), origin)
    return TorchBackend(model, network, device, bf16)
