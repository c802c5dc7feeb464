"""Writes a trained network in MXNet's own format for deployment: a symbol and its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semseg.engines.gluon import networks, runtime
from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import without_auxiliary
from semseg.types import Arrays

mx = runtime.load()


class _FullSizeLogits(networks.HybridBlock):  # type: ignore[misc]
    """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, H, W) as GluonCV's `predict`, for any H and W."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network = networks.LowResolutionLogits(model)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        (logits,) = self.network(x)
        return F.contrib.BilinearResize2D(logits, x, mode="like")


def write_symbol(
    network: Network, backbone: Backbone, num_classes: int, arrays: Arrays, origin: str, directory: Path
) -> tuple[Path, Path]:
    """Write the network to two files in the directory, and return their paths: the symbol, the parameters.

    arrays: parameters by GluonCV's structural name; `origin` names their file in errors. The symbol's input is `data`,
    its output the logits at full size; it has no auxiliary head.
    Raises ArtifactError when a parameter is missing, unknown or of another shape, UserError for a network that GluonCV
    does not have.
    """
    model = networks.build(network, backbone, num_classes, mx.cpu(), aux=False)
    networks.assign(networks.parameters(model), without_auxiliary(arrays), origin)
    logits = _FullSizeLogits(model)
    logits.hybridize()
    logits(mx.nd.zeros((1, 3, 64, 64)))  # makes the graph that is exported
    logits.export(str(directory / "network"))
    return directory / "network-symbol.json", directory / "network-0000.params"
