"""Saves and restores the state of MXNet's optimizers as named arrays; `Trainer.save_states` would pickle it.

The state is arrays for each parameter, and the number of updates. An optimizer that keeps another number for all
parameters together, as MXNet's nadam does, needs it here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from semseg.engines.learner_state import UPDATES, updates_of
from semseg.networks.parameters import require_fit
from semseg.types import Arrays


def read(trainer: Any, named: Mapping[str, Any]) -> Arrays:
    """Return the number of updates and, after the first one, the state of each trained parameter.

    named: the parameters by structural name. The arrays have the names that `learner_state` describes.
    """
    updates = np.array([trainer.optimizer.num_update], np.int64)
    states = _states(trainer, trainer._updaters[0], named)  # those of all devices are equal
    return {UPDATES: updates} | {name: state.asnumpy() for name, state in states.items()}


def write(trainer: Any, named: Mapping[str, Any], arrays: Arrays, origin: str) -> None:
    """Restore what `read` returned from a trainer with the same parameters and optimizer.

    Raises ArtifactError, naming `origin`, when names or shapes differ, or the number of updates is none.
    """
    optimizer = trainer.optimizer
    updates = updates_of(arrays, origin)
    trained = dict(_trained(trainer, named).values()) if updates else {}
    for device, updater in zip(next(iter(named.values())).list_ctx(), trainer._updaters, strict=True):
        updater.states = {
            index: optimizer.create_state_multi_precision(index, value.data(device)) for index, value in trained.items()
        }
        updater.states_synced = dict.fromkeys(trained, True)
        states = _states(trainer, updater, named)
        require_fit(states, {name: array for name, array in arrays.items() if name != UPDATES}, origin)
        for name, state in states.items():
            state[:] = arrays[name]
        optimizer._all_index_update_counts[device.device_id] = dict.fromkeys(trained, updates)
    optimizer.num_update = updates


def _trained(trainer: Any, named: Mapping[str, Any]) -> dict[str, tuple[int, Any]]:
    """The parameters that the trainer updates, each with its index there, by name."""
    indices = {id(parameter): index for index, parameter in enumerate(trainer._params) if parameter.grad_req != "null"}
    return {name: (indices[id(value)], value) for name, value in named.items() if id(value) in indices}


def _states(trainer: Any, updater: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of the updater's state, by name; none before the first update or for an optimizer without state."""
    states = {}
    for name, (index, _) in _trained(trainer, named).items():
        held = updater.states.get(index)
        for number, state in enumerate(held if isinstance(held, tuple) else [held]):
            if state is not None:
                states[f"{name}/{number}"] = state
    return states
