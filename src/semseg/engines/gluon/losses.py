"""What training minimises: GluonCV's criterion, or one that does not overlook rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, SupportsFloat

import numpy as np

from semseg.engines.gluon import faults, runtime
from semseg.types import IGNORED

mx = runtime.load()

FOCUS = 2.0
"""How strongly the focal loss leaves out pixels that are right already: the exponent that its authors settled on."""

_SMOOTH = 1.0
"""Pixels added to both sides of a dice coefficient, which so is defined, and close to 1, for a class of none."""

_LEAST = 1e-6


class Objective(NamedTuple):
    """What a batch is to be fitted to.

    heads: the arrays whose `backward` gives the gradient, of the mean over the valid pixels, all heads at weight 1.
    value: what is told of the batch, the auxiliary head at its weight; as a float it waits for the device.
    """

    heads: list[Any]
    value: SupportsFloat


class Criterion(Protocol):
    """Called while MXNet records, with the logits of the heads at full size, float32 (N, C, H, W) each, the main
    head's first, and the labels, float32 (N, H, W), `IGNORED` where a pixel does not count."""

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        ...


class MixedCrossEntropy:
    """What GluonCV's MixSoftmaxCrossEntropyLoss does. Its gradient is SoftmaxOutput's, with both heads at weight 1.

    The value is the mean over all pixels of a picture, those that do not count at 0. Unlike GluonCV's it takes no
    logarithm of what no pixel is labelled as, and is finite where a softmax underflows.
    """

    def __init__(self, aux_weight: float) -> None:
        self._weights = 1.0, aux_weight

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        found = [
            mx.nd.SoftmaxOutput(
                logits,
                labels.astype(logits.dtype, copy=False),
                multi_output=True,
                use_ignore=True,
                ignore_label=IGNORED,
                normalization="valid",
            )
            for logits in outputs
        ]
        with mx.autograd.pause():
            values = [-_of_softmax(*both, labels).mean() for both in zip(found, outputs, strict=True)]
        return Objective(found, _Weighted(values, self._weights))


class BalancedLoss:
    """Cross entropy, focal loss (Lin et al. 2017), or cross entropy and soft dice (Milletari et al. 2016) at one each.

    kind: ``cross_entropy``, ``focal`` or ``dice+ce``. class_weights: what a pixel of each class counts for, none
    negative, and what its dice coefficient does; None for 1 each. All means are weighted ones, so that with equal
    weights the gradient of the cross entropy is `MixedCrossEntropy`'s.
    focus: the focal loss's exponent; dice: the share of dice beside the cross entropy's 1.
    """

    def __init__(
        self,
        kind: str,
        class_weights: Sequence[float] | None,
        num_classes: int,
        aux_weight: float,
        focus: float = FOCUS,
        dice: float = 1.0,
    ) -> None:
        self._focus = focus if kind == "focal" else 0.0
        self._dice = dice if kind == "dice+ce" else 0.0
        self._class_weights = np.array(class_weights or num_classes * (1.0,), np.float32)
        self._head_weights = 1.0, aux_weight

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        losses = [self._loss(logits, labels) for logits in outputs]
        return Objective(losses, _Weighted([loss.detach() for loss in losses], self._head_weights))

    def _loss(self, logits: Any, labels: Any) -> Any:
        of_class = runtime.to_device(self._class_weights, logits.context)
        weights = mx.nd.where(labels == IGNORED, mx.nd.zeros_like(labels), mx.nd.take(of_class, labels))
        likelihood = log_likelihood(logits, labels)
        missed = (1 - mx.nd.exp(likelihood)) ** self._focus if self._focus else 1
        loss = -(weights * missed * likelihood).sum() / mx.nd.maximum(weights.sum(), _LEAST)
        return loss + self._dice * self._dice_loss(logits, labels, of_class) if self._dice else loss

    def _dice_loss(self, logits: Any, labels: Any, of_class: Any) -> Any:
        """1 less the mean dice coefficient of the classes that the batch shows, over all its pixels that count."""
        counted = mx.nd.expand_dims(labels != IGNORED, 1)
        shown = mx.nd.transpose(mx.nd.one_hot(labels, len(self._class_weights)), (0, 3, 1, 2))  # nothing of IGNORED
        found = mx.nd.softmax(logits, axis=1) * counted
        both, total, pixels = (part.sum(axis=1, exclude=True) for part in (found * shown, found + shown, shown))
        coefficients = (2 * both + _SMOOTH) / (total + _SMOOTH)
        weights = of_class * (pixels > 0)
        return (weights * (1 - coefficients)).sum() / mx.nd.maximum(weights.sum(), _LEAST)


class _Weighted:
    """A weighted sum of arrays of one value, on their way from the device: `float` waits for them."""

    def __init__(self, values: list[Any], weights: tuple[float, ...]) -> None:
        self._parts = list(zip(values, weights, strict=False))

    @faults.translated(faults.TRAINING)
    def __float__(self) -> float:
        return sum(weight * float(value.asscalar()) for value, weight in self._parts)


def log_likelihood(logits: Any, labels: Any) -> Any:
    """The logarithm of the probability of each pixel's label, float32 (N, H, W); 0 where the label does not count."""
    return _counted(_picked(mx.nd.log_softmax(logits, axis=1), labels), labels)


def _of_softmax(probabilities: Any, logits: Any, labels: Any) -> Any:
    """What `log_likelihood` returns, from the softmax: log p = z - z' + log p', with p' the largest, never 0."""
    largest = probabilities.argmax(axis=1)
    behind = _picked(logits, labels) - _picked(logits, largest)
    return _counted(behind + mx.nd.log(_picked(probabilities, largest)), labels)


def _picked(scores: Any, labels: Any) -> Any:
    """(N, C, H, W) -> (N, H, W): of each pixel the score of its label, or of any class where it does not count."""
    return mx.nd.pick(scores, labels, axis=1)


def _counted(values: Any, labels: Any) -> Any:
    """The values, 0 where a pixel does not count."""
    return mx.nd.where(labels == IGNORED, mx.nd.zeros_like(values), values)
