"""The optimizers in MXNet's form, with the state that MXNet's keep, so that either engine resumes the other's training.

PyTorch's own differ: its sgd has the learning rate outside the momentum, its adam and rmsprop have epsilon elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semseg.engines.protocols import OptimizerSettings

Tensors = list[Tensor]


class Step(NamedTuple):
    """An update of tensors that have one learning rate.

    gradients: of the mean over the images, may be overwritten; states: as many lists as the optimizer keeps;
    updates: the number of updates, with this one.
    """

    weights: Tensors
    gradients: Tensors
    states: tuple[Tensors, ...]
    rate: float
    updates: int


@dataclass(frozen=True)
class Rule:
    """How an optimizer changes tensors. states: how many it keeps of each, all 0 at first; apply: makes an update."""

    states: int
    apply: Callable[[Step], None]


def rule_of(settings: OptimizerSettings) -> Rule:
    """Return the rule of an optimizer with the settings that it reads, as the table in `sagemaker.optimizers` says."""
    momentum, decay = settings.momentum, settings.weight_decay
    if settings.name in ("sgd", "nag") and not momentum:
        return Rule(0, partial(_plain, decay=decay))
    return {
        "sgd": Rule(1, partial(_sgd, momentum=momentum, decay=decay)),
        "nag": Rule(1, partial(_nag, momentum=momentum, decay=decay)),
        "adam": Rule(2, _adam),
        "rmsprop": Rule(3, partial(_rmsprop, gamma1=settings.gamma1, gamma2=settings.gamma2)),
        "adagrad": Rule(1, _adagrad),
    }[settings.name]


def clip(gradients: Tensors, longest: float) -> None:
    """Scale the whole gradient down to the norm `longest` if its own is longer, without waiting for the device."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (longest / (norm + 1e-8)).clamp(max=1))


def _plain(step: Step, decay: float) -> None:
    """w -= lr (g + decay w)."""
    torch._foreach_add_(step.gradients, step.weights, alpha=decay)
    torch._foreach_add_(step.weights, step.gradients, alpha=-step.rate)


def _sgd(step: Step, momentum: float, decay: float) -> None:
    """m = momentum m - lr (g + decay w); w += m."""
    (moments,) = step.states
    torch._foreach_mul_(moments, momentum)
    torch._foreach_add_(moments, step.gradients, alpha=-step.rate)
    torch._foreach_add_(moments, step.weights, alpha=-step.rate * decay)
    torch._foreach_add_(step.weights, moments)


def _nag(step: Step, momentum: float, decay: float) -> None:
    """m = momentum m; w += momentum m - (1 + momentum) lr (g + decay w); m -= lr (g + decay w), with the new w.

    MXNet's kernel computes in place, and reads the new w in the last term.
    """
    (moments,) = step.states
    torch._foreach_mul_(moments, momentum)
    decayed = torch._foreach_add(step.gradients, step.weights, alpha=decay)
    torch._foreach_add_(step.weights, moments, alpha=momentum)
    torch._foreach_add_(step.weights, decayed, alpha=-(1 + momentum) * step.rate)
    torch._foreach_add_(moments, step.gradients, alpha=-step.rate)
    torch._foreach_add_(moments, step.weights, alpha=-step.rate * decay)


def _adam(step: Step, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
    """w -= lr sqrt(1 - beta2^t) / (1 - beta1^t) mean / (sqrt(square) + epsilon)."""
    rate = step.rate * math.sqrt(1 - beta2**step.updates) / (1 - beta1**step.updates)
    beta2 = float(np.float32(beta2))  # MXNet's kernel has it in float32, which makes 1 - beta2 smaller by 1.3e-5 of it
    means, squares = step.states
    torch._foreach_lerp_(means, step.gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, step.gradients, step.gradients, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, epsilon)
    torch._foreach_addcdiv_(step.weights, means, roots, -rate)


def _rmsprop(step: Step, gamma1: float, gamma2: float, epsilon: float = 1e-8) -> None:
    """The centered variant: m = gamma2 m - lr g / sqrt(square - mean^2 + epsilon); w += m."""
    squares, means, moments = step.states
    torch._foreach_mul_(squares, gamma1)
    torch._foreach_addcmul_(squares, step.gradients, step.gradients, 1 - gamma1)
    torch._foreach_lerp_(means, step.gradients, 1 - gamma1)
    roots = torch._foreach_addcmul(squares, means, means, -1)
    torch._foreach_add_(roots, epsilon)
    torch._foreach_sqrt_(roots)
    torch._foreach_mul_(moments, gamma2)
    torch._foreach_addcdiv_(moments, step.gradients, roots, -step.rate)
    torch._foreach_add_(step.weights, moments)


def _adagrad(step: Step, epsilon: float = 1e-7) -> None:
    """square += g^2; w -= lr g / sqrt(square + epsilon)."""
    (squares,) = step.states
    torch._foreach_addcmul_(squares, step.gradients, step.gradients, 1)
    roots = torch._foreach_add(squares, epsilon)
    torch._foreach_sqrt_(roots)
    torch._foreach_addcdiv_(step.weights, step.gradients, roots, -step.rate)
