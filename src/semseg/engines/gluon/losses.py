"""The criteria that training minimises: GluonCV's own, and ones for rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, SupportsFloat

import numpy as np

from semseg.engines.criteria import FOCUS, LEAST_WEIGHT, SMOOTH
from semseg.engines.gluon import faults, runtime
from semseg.types import IGNORED

mx = runtime.load()


class Objective(NamedTuple):
    """A criterion's result for a batch.

    heads: the arrays whose `backward` gives the gradient, of the mean over the valid pixels, all heads at weight 1.
    value: the loss that is reported, with the auxiliary head at its weight; as a float it waits for the device.
    """

    heads: list[Any]
    value: SupportsFloat


class Criterion(Protocol):
    """A loss function, called while MXNet records.

    outputs: each head's logits at full size, float32 (N, C, H, W), the main head first; labels: float32 (N, H, W),
    `IGNORED` for ignored pixels.
    """

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        ...


class MixedCrossEntropy:
    """GluonCV's MixSoftmaxCrossEntropyLoss. Its gradient is SoftmaxOutput's, with both heads at weight 1.

    The value is the mean over all pixels of an image, in which ignored pixels count as 0. Unlike GluonCV's, it computes
    the logarithm only for each pixel's label, and is finite where a softmax underflows.
    """

    def __init__(self, aux_weight: float) -> None:
        self._weights = 1.0, aux_weight

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        softmaxes = [
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
            values = [
                -_log_likelihood_of(softmax, logits, labels).mean()
                for softmax, logits in zip(softmaxes, outputs, strict=True)
            ]
        return Objective(softmaxes, _WeightedSum(values, self._weights))


class BalancedLoss:
    """Weighted cross entropy, focal loss (Lin et al. 2017), or cross entropy plus soft dice (Milletari et al. 2016).

    kind: ``cross_entropy``, ``focal`` or ``dice+ce``. class_weights: the weights, not negative, of each class's pixels
    and dice coefficient; None for 1 each. All means are weighted, so that with equal weights the gradient of the cross
    entropy is `MixedCrossEntropy`'s. focus: the focal loss's exponent; dice: the weight of dice, beside 1 for the cross
    entropy.
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
        self._weights_on_device: Any = None
        self._head_weights = 1.0, aux_weight

    def __call__(self, outputs: list[Any], labels: Any) -> Objective:
        """The objective of a batch."""
        if self._weights_on_device is None:
            self._weights_on_device = runtime.to_device(self._class_weights, outputs[0].context)
        losses = [self._loss(logits, labels, self._weights_on_device) for logits in outputs]
        return Objective(losses, _WeightedSum([loss.detach() for loss in losses], self._head_weights))

    def _loss(self, logits: Any, labels: Any, class_weights: Any) -> Any:
        weights = mx.nd.where(labels == IGNORED, mx.nd.zeros_like(labels), mx.nd.take(class_weights, labels))
        likelihood = log_likelihood(logits, labels)
        missed = (1 - mx.nd.exp(likelihood)) ** self._focus if self._focus else 1
        loss = -(weights * missed * likelihood).sum() / mx.nd.maximum(weights.sum(), LEAST_WEIGHT)
        return loss + self._dice * self._dice_loss(logits, labels, class_weights) if self._dice else loss

    def _dice_loss(self, logits: Any, labels: Any, class_weights: Any) -> Any:
        """1 - the mean dice coefficient of the classes in the batch, over all its pixels that are not ignored."""
        valid = mx.nd.expand_dims(labels != IGNORED, 1)
        truth = mx.nd.transpose(mx.nd.one_hot(labels, len(self._class_weights)), (0, 3, 1, 2))  # all 0 for IGNORED
        found = mx.nd.softmax(logits, axis=1) * valid
        both, total, pixels = (array.sum(axis=1, exclude=True) for array in (found * truth, found + truth, truth))
        coefficients = (2 * both + SMOOTH) / (total + SMOOTH)
        weights = class_weights * (pixels > 0)
        return (weights * (1 - coefficients)).sum() / mx.nd.maximum(weights.sum(), LEAST_WEIGHT)


class _WeightedSum:
    """A weighted sum of single-valued arrays on the device; `float` waits for them."""

    def __init__(self, values: list[Any], weights: tuple[float, ...]) -> None:
        self._terms = list(zip(values, weights, strict=False))

    @faults.translated(faults.TRAINING_HINT)
    def __float__(self) -> float:
        return sum(weight * float(value.asscalar()) for value, weight in self._terms)


def log_likelihood(logits: Any, labels: Any) -> Any:
    """The logarithm of the probability of each pixel's label, float32 (N, H, W); 0 for ignored pixels."""
    return _zero_where_ignored(_picked(mx.nd.log_softmax(logits, axis=1), labels), labels)


def _log_likelihood_of(probabilities: Any, logits: Any, labels: Any) -> Any:
    """`log_likelihood` from a softmax computed before: log p = z - z' + log p', with p' the largest, never 0."""
    largest = probabilities.argmax(axis=1)
    behind = _picked(logits, labels) - _picked(logits, largest)
    return _zero_where_ignored(behind + mx.nd.log(_picked(probabilities, largest)), labels)


def _picked(scores: Any, labels: Any) -> Any:
    """(N, C, H, W) -> (N, H, W): the score of each pixel's label, or of any class for ignored pixels."""
    return mx.nd.pick(scores, labels, axis=1)


def _zero_where_ignored(values: Any, labels: Any) -> Any:
    """The values, with 0 for ignored pixels."""
    return mx.nd.where(labels == IGNORED, mx.nd.zeros_like(values), values)
