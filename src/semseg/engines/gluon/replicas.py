"""Keeps the copies of a network's parameters on several devices equal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from semseg.engines.gluon import runtime

mx = runtime.load()


def without_gradient(parameters: Iterable[Any], devices: Sequence[Any]) -> None:
    """Make the gradients of Gluon's parameters 0 on devices that had no part of the batch.

    A trainer adds up the gradients of all devices, and refuses one that is older than its last update.
    """
    if devices:
        for parameter in parameters:
            for device in devices:
                parameter.grad(device)[:] = 0
                parameter.data(device)._fresh_grad = True


def average(parameters: Iterable[Any], devices: Sequence[Any]) -> None:
    """Give Gluon's parameters, on all their devices, the mean of their values on these, as Gluon saves it."""
    for parameter in parameters:
        values = [parameter.data(device).as_in_context(devices[0]) for device in devices]
        parameter.set_data(mx.nd.add_n(*values) / len(values))
