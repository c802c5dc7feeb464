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


class Part(NamedTuple):
    """A part of a batch, and what the network makes of it, all on one device.

    outputs: each head's logits at full size, float32 (N, C, H, W), the main head first. labels: float32 (N, H, W),
    `IGNORED` for ignored pixels. images, valid: the part's share of the batch's images and of its valid pixels, each
    from 0 to 1; 0 if the batch has none.
    """

    outputs: list[Any]
    labels: Any
    images: float = 1.0
    valid: float = 1.0


class Criterion(Protocol):
    """A loss function, called while MXNet records.

    Its value and gradient are those of the whole batch, on however many devices its parts are.
    """

    def __call__(self, parts: Sequence[Part]) -> Objective:
        """The objective of a batch, from all its parts."""
        ...


class MixedCrossEntropy:
    """GluonCV's MixSoftmaxCrossEntropyLoss. Its gradient is SoftmaxOutput's, with both heads at weight 1.

    The value is the mean over all pixels of an image, in which ignored pixels count as 0. Unlike GluonCV's, it computes
    the logarithm only for each pixel's label, and is finite where a softmax underflows.
    """

    def __init__(self, aux_weight: float) -> None:
        self._weights = 1.0, aux_weight

    def __call__(self, parts: Sequence[Part]) -> Objective:
        """The objective of a batch, from all its parts."""
        heads, terms = [], []
        for part in parts:
            for logits, weight in zip(part.outputs, self._weights, strict=False):
                softmax = mx.nd.SoftmaxOutput(
                    logits,
                    part.labels.astype(logits.dtype, copy=False),
                    multi_output=True,
                    use_ignore=True,
                    ignore_label=IGNORED,
                    normalization="valid",
                    grad_scale=part.valid,  # from the mean over the part's valid pixels to that over the batch's
                )
                with mx.autograd.pause():
                    value = -_log_likelihood_of(softmax, logits, part.labels).mean()
                heads.append(softmax)
                terms.append((part.images * weight, value))
        return Objective(heads, _WeightedSum(terms))


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
        self._weights_on: dict[Any, Any] = {}
        self._head_weights = 1.0, aux_weight

    def __call__(self, parts: Sequence[Part]) -> Objective:
        """The objective of a batch, from all its parts."""
        labels = [part.labels for part in parts]
        losses = [self._loss(logits, labels) for logits in zip(*(part.outputs for part in parts), strict=True)]
        values = [loss.detach() for loss in losses]
        return Objective(losses, _WeightedSum(list(zip(self._head_weights, values, strict=False))))

    def _loss(self, logits: Sequence[Any], labels: Sequence[Any]) -> Any:
        """A head's loss, on the first device. logits, labels: of each part."""
        sums = [self._weighted_sums(*part) for part in zip(logits, labels, strict=True)]
        likelihood, weight = map(_total, zip(*sums, strict=True))
        loss = -likelihood / mx.nd.maximum(weight, LEAST_WEIGHT)
        return loss + self._dice * self._dice_loss(logits, labels) if self._dice else loss

    def _weighted_sums(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        """The sum of a part's weighted log likelihoods, and that of the weights."""
        class_weights = self._weights(logits.context)
        weights = mx.nd.where(labels == IGNORED, mx.nd.zeros_like(labels), mx.nd.take(class_weights, labels))
        likelihood = log_likelihood(logits, labels)
        missed = (1 - mx.nd.exp(likelihood)) ** self._focus if self._focus else 1
        return (weights * missed * likelihood).sum(), weights.sum()

    def _weights(self, device: Any) -> Any:
        """The class weights on a device, where they are copied to once."""
        if device not in self._weights_on:
            self._weights_on[device] = runtime.to_device(self._class_weights, device)
        return self._weights_on[device]

    def _dice_loss(self, logits: Sequence[Any], labels: Sequence[Any]) -> Any:
        """1 - the mean dice coefficient of the classes in the batch, over all its pixels that are not ignored."""
        areas = [self._areas(*part) for part in zip(logits, labels, strict=True)]
        both, total, pixels = map(_total, zip(*areas, strict=True))
        coefficients = (2 * both + SMOOTH) / (total + SMOOTH)
        weights = self._weights(pixels.context) * (pixels > 0)
        return (weights * (1 - coefficients)).sum() / mx.nd.maximum(weights.sum(), LEAST_WEIGHT)

    def _areas(self, logits: Any, labels: Any) -> tuple[Any, Any, Any]:
        """The pixels of each class in a part, each (C,): found rightly, found plus true, true."""
        valid = mx.nd.expand_dims(labels != IGNORED, 1)
        truth = mx.nd.transpose(mx.nd.one_hot(labels, len(self._class_weights)), (0, 3, 1, 2))  # all 0 for IGNORED
        found = mx.nd.softmax(logits, axis=1) * valid
        both, total, pixels = (array.sum(axis=1, exclude=True) for array in (found * truth, found + truth, truth))
        return both, total, pixels


def _total(arrays: Sequence[Any]) -> Any:
    """The sum of arrays on several devices, on the first one; the gradient goes back to each."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array.as_in_context(total.context)
    return total


class _WeightedSum:
    """A sum of weighted single-valued arrays on devices; `float` waits for them."""

    def __init__(self, terms: list[tuple[float, Any]]) -> None:
        self._terms = terms

    @faults.translated(faults.TRAINING_HINT)
    def __float__(self) -> float:
        return sum(weight * float(value.asscalar()) for weight, value in self._terms)


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
