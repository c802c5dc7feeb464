"""Translates the settings of an optimizer to MXNet's arguments."""

from __future__ import annotations

from semseg.engines.protocols import OptimizerSettings
from semseg.sagemaker.optimizers import OPTIMIZERS

_NAMES = {"weight_decay": "wd"}
"""MXNet's names of settings, where they differ."""

_FIXED: dict[str, dict[str, float | bool]] = {"rmsprop": {"centered": True}}
"""Further arguments of an optimizer that no job changes."""


def mxnet_arguments(optimizer: OptimizerSettings) -> dict[str, float | bool]:
    """Return the keyword arguments of MXNet's optimizer of that name, except the learning rate."""
    read = {_NAMES.get(name, name): getattr(optimizer, name) for name in OPTIMIZERS[optimizer.name]}
    return read | _FIXED.get(optimizer.name, {})
