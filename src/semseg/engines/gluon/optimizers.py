"""The optimizers in MXNet's words."""

from __future__ import annotations

from semseg.engines.protocols import OptimizerSettings
from semseg.sagemaker.optimizers import OPTIMIZERS

_NAMES = {"weight_decay": "wd"}
"""MXNet's names for what an optimizer reads, where they differ."""

_FIXED: dict[str, dict[str, float | bool]] = {"rmsprop": {"centered": True}}
"""What an optimizer is given besides, whatever a job says."""


def mxnet_arguments(optimizer: OptimizerSettings) -> dict[str, float | bool]:
    """Return the keyword arguments of MXNet's optimizer of that name, but for the learning rate."""
    read = {_NAMES.get(name, name): getattr(optimizer, name) for name in OPTIMIZERS[optimizer.name]}
    return read | _FIXED.get(optimizer.name, {})
