"""Updates the trained tensors of a network with an optimizer, and keeps the optimizer's state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from semseg.engines.learner_state import UPDATES, updates_of
from semseg.engines.protocols import OptimizerSettings
from semseg.engines.torch.network import arrays_of, assign
from semseg.engines.torch.optimizers import Step, Tensors, clip, rule_of
from semseg.networks.parameters import Table
from semseg.types import Arrays


class Updater:
    """An optimizer and its state for those tensors of a network that have a gradient."""

    def __init__(self, settings: OptimizerSettings, tensors: Mapping[str, Tensor], table: Table) -> None:
        """tensors: by structural name, already on their device; table: each one's factor of the learning rate."""
        self._rule = rule_of(settings)
        self._longest = settings.gradient_clip
        self._trained = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
        self._states = {
            name: [torch.zeros_like(tensor) for _ in range(self._rule.states)] for name, tensor in self._trained.items()
        }
        self._groups = _groups(self._trained, table)
        self._updates = 0

    def gradients(self) -> Tensors:
        """Return the gradients of the trained tensors."""
        return [tensor.grad for tensor in self._trained.values()]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self, learning_rate: float, images: int | Tensor) -> None:
        """Make an update with the gradients of the mean over a number of images, and overwrite them.

        The limit of a gradient's norm is for the sum over the images, as GluonCV's training clips it.
        """
        if self._longest:
            clip(self.gradients(), self._longest / images)
        self._updates += 1
        for rate, names in self._groups:
            weights = [self._trained[name] for name in names]
            states = tuple([self._states[name][number] for name in names] for number in range(self._rule.states))
            gradients = [weight.grad for weight in weights]
            self._rule.apply(Step(weights, gradients, states, learning_rate * rate, self._updates))

    def drop_gradients(self) -> None:
        """Forget the gradients, so that the next ones are not added to them."""
        for tensor in self._trained.values():
            tensor.grad = None

    def read(self) -> Arrays:
        """Return the number of updates and, after the first one, the states, by the names of `learner_state`."""
        return {UPDATES: np.array([self._updates], np.int64)} | (arrays_of(self._named()) if self._updates else {})

    def write(self, arrays: Arrays, origin: str) -> None:
        """Restore what `read` returned from an updater, or MXNet's trainer, of the same parameters and optimizer.

        Raises ArtifactError, naming `origin`, when names or shapes differ, or the number of updates is none.
        """
        updates = updates_of(arrays, origin)
        states = self._named()
        assign(states if updates else {}, {name: array for name, array in arrays.items() if name != UPDATES}, origin)
        if not updates:
            for state in states.values():
                state.zero_()
        self._updates = updates

    def _named(self) -> dict[str, Tensor]:
        return {f"{name}/{i}": state for name, states in self._states.items() for i, state in enumerate(states)}


def _groups(trained: Mapping[str, Tensor], table: Table) -> list[tuple[float, list[str]]]:
    """The names of the tensors that are updated together, with their factor of the learning rate.

    On GPUs all of one factor are, which takes few launches. On CPUs each is by itself, and stays in the cache.
    """
    by_rate: dict[float, list[str]] = defaultdict(list)
    for name in trained:
        by_rate[table[name].rate].append(name)
    if all(tensor.device.type == "cpu" for tensor in trained.values()):
        return [(rate, [name]) for rate, names in by_rate.items() for name in names]
    return list(by_rate.items())
