"""The criteria that training minimises: GluonCV's own, and ones for rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from semseg.engines.criteria import FOCUS, LEAST_WEIGHT, SMOOTH
from semseg.engines.protocols import LearnerSpecification
from semseg.types import IGNORED


class Objective(NamedTuple):
    """A criterion's result for a batch, each a tensor of no dimension.

    total: what is to be differentiated, the mean over the valid pixels, all heads at weight 1.
    value: the loss that is reported, with the auxiliary head at its weight, detached.
    """

    total: Tensor
    value: Tensor


class Criterion(Protocol):
    """A loss function.

    outputs: each head's logits at full size, float32 (N, C, H, W), the main head first; labels: int64 (N, H, W),
    `IGNORED` for ignored pixels.
    """

    def __call__(self, outputs: Sequence[Tensor], labels: Tensor) -> Objective:
        """The objective of a batch."""
        ...


def criterion_of(specification: LearnerSpecification) -> Criterion:
    """Return the specified criterion: GluonCV's, unless class weights or another loss are requested."""
    weights, loss = specification.class_weights, specification.loss
    if not weights and loss == "cross_entropy":
        return MixedCrossEntropy(specification.aux_weight)
    return BalancedLoss(loss, weights, specification.num_classes, specification.aux_weight)


class MixedCrossEntropy:
    """GluonCV's MixSoftmaxCrossEntropyLoss, with the gradient of MXNet's SoftmaxOutput: both heads at weight 1.

    The value is the mean over all pixels of an image, in which ignored pixels count as 0. The gradient is that of the
    mean over the valid pixels of the batch, 0 if there are none.
    """

    def __init__(self, aux_weight: float) -> None:
        self._head_weights = 1.0, aux_weight

    def __call__(self, outputs: Sequence[Tensor], labels: Tensor) -> Objective:
        """The objective of a batch."""
        sums = [cross_entropy(logits, labels).sum() for logits in outputs]
        valid = (labels != IGNORED).sum().clamp(min=1)
        return Objective(sum(sums) / valid, _weighted_sum(sums, self._head_weights) / labels.numel())


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
        self._class_weights = tuple(class_weights or num_classes * (1.0,))
        self._weights_on_device: Tensor | None = None
        self._head_weights = 1.0, aux_weight

    def __call__(self, outputs: Sequence[Tensor], labels: Tensor) -> Objective:
        """The objective of a batch."""
        if self._weights_on_device is None:  # a GPU would wait for a copy in each step
            self._weights_on_device = outputs[0].new_tensor(self._class_weights)
        losses = [self._loss(logits, labels, self._weights_on_device) for logits in outputs]
        return Objective(sum(losses), _weighted_sum(losses, self._head_weights))

    def _loss(self, logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
        valid = labels != IGNORED
        weights = class_weights[labels.where(valid, 0)] * valid
        unlikely = cross_entropy(logits, labels)
        missed = (1 - torch.exp(-unlikely)) ** self._focus if self._focus else 1
        loss = (weights * missed * unlikely).sum() / weights.sum().clamp(min=LEAST_WEIGHT)
        return loss + self._dice * _dice_loss(logits, labels, class_weights) if self._dice else loss


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the logarithm of the probability of each pixel's label, (N, H, W); 0 for ignored pixels.

    Its sum is taken apart from it, because PyTorch's reduced form is not deterministic on GPUs.
    """
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")


def _dice_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """1 - the mean dice coefficient of the classes in the batch, over all its pixels that are not ignored."""
    valid = (labels != IGNORED)[:, None]
    classes = torch.arange(len(class_weights), device=labels.device)
    truth = labels[:, None] == classes[:, None, None]  # none for IGNORED
    found = logits.softmax(dim=1) * valid
    over_pixels = (0, 2, 3)
    both, pixels = (found * truth).sum(over_pixels), truth.sum(over_pixels)
    coefficients = (2 * both + SMOOTH) / (found.sum(over_pixels) + pixels + SMOOTH)
    weights = class_weights * (pixels > 0)
    return (weights * (1 - coefficients)).sum() / weights.sum().clamp(min=LEAST_WEIGHT)


def _weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of the heads' values, each at its weight; without the auxiliary head its weight is left over."""
    return sum(weight * value.detach() for weight, value in zip(weights, values, strict=False))
