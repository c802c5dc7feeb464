"""The criteria that training minimises: GluonCV's own, and ones for rare classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

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


class Criterion(ABC):
    """A loss function, in two parts: sums over the pixels of a batch, and the objective of those sums.

    Sums over the parts of a batch add up to those of the whole, wherever the parts were computed.
    """

    @abstractmethod
    def sums(self, outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return this criterion's sums over the pixels of a batch, which may be empty, of the outputs' dtype.

        outputs: each head's logits at full size, float32 (N, C, H, W), the main head first; labels: int64 (N, H, W),
        `IGNORED` for ignored pixels.
        """

    @abstractmethod
    def objective(self, sums: Tensor) -> Objective:
        """Return the objective of the batch, at least one image, that has these sums."""

    def __call__(self, outputs: Sequence[Tensor], labels: Tensor) -> Objective:
        """Return the objective of a batch."""
        return self.objective(self.sums(outputs, labels))


def criterion_of(specification: LearnerSpecification) -> Criterion:
    """Return the specified criterion: GluonCV's, unless class weights or another loss are requested."""
    weights, loss = specification.class_weights, specification.loss
    if not weights and loss == "cross_entropy":
        return MixedCrossEntropy(specification.aux_weight)
    return BalancedLoss(loss, weights, specification.num_classes, specification.aux_weight)


class MixedCrossEntropy(Criterion):
    """GluonCV's MixSoftmaxCrossEntropyLoss, with the gradient of MXNet's SoftmaxOutput: both heads at weight 1.

    The value is the mean over all pixels of an image, in which ignored pixels count as 0. The gradient is that of the
    mean over the valid pixels of the batch, 0 if there are none.
    """

    def __init__(self, aux_weight: float) -> None:
        self._head_weights = 1.0, aux_weight

    def sums(self, outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the cross entropy of each head, the number of valid pixels, and that of all: (heads + 2,)."""
        losses = [cross_entropy(logits, labels).sum() for logits in outputs]
        return torch.stack([*losses, (labels != IGNORED).sum(), losses[0].new_full((), labels.numel())])

    def objective(self, sums: Tensor) -> Objective:
        """Return the objective of a batch."""
        *losses, valid, pixels = sums
        return Objective(sum(losses) / valid.clamp(min=1), _weighted_sum(losses, self._head_weights) / pixels.detach())


class BalancedLoss(Criterion):
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

    def sums(self, outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return for each head the weighted losses and the weights, and with dice each class's sums for it:
        (heads, 2) or (heads, 2 + 3 C).
        """
        class_weights = self._weights_like(outputs[0])
        valid = labels != IGNORED
        weights = class_weights[labels.where(valid, 0)] * valid
        return torch.stack([self._head_sums(logits, labels, weights) for logits in outputs])

    def objective(self, sums: Tensor) -> Objective:
        """Return the objective of a batch."""
        losses = [self._loss(head) for head in sums]
        return Objective(sum(losses), _weighted_sum(losses, self._head_weights))

    def _weights_like(self, tensor: Tensor) -> Tensor:
        """The class weights, copied to the device once: a GPU would wait for a copy in each step."""
        if self._weights_on_device is None:
            self._weights_on_device = tensor.new_tensor(self._class_weights)
        return self._weights_on_device

    def _head_sums(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        unlikely = cross_entropy(logits, labels)
        missed = (1 - torch.exp(-unlikely)) ** self._focus if self._focus else 1
        means = torch.stack([(weights * missed * unlikely).sum(), weights.sum()])
        return torch.cat([means, _dice_sums(logits, labels).flatten()]) if self._dice else means

    def _loss(self, sums: Tensor) -> Tensor:
        loss = sums[0] / sums[1].clamp(min=LEAST_WEIGHT)
        if not self._dice:
            return loss
        return loss + self._dice * _dice_loss(sums[2:].reshape(3, -1), self._weights_like(sums))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the logarithm of the probability of each pixel's label, (N, H, W); 0 for ignored pixels.

    Its sum is taken apart from it, because PyTorch's reduced form is not deterministic on GPUs.
    """
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")


def _dice_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Sums over the pixels that are not ignored, (3, C): a class's probability where it is the label, its probability,
    and the pixels that it is the label of."""
    valid = (labels != IGNORED)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)
    truth = labels[:, None] == classes[:, None, None]  # none for IGNORED
    found = logits.softmax(dim=1) * valid
    over_pixels = (0, 2, 3)
    return torch.stack([(found * truth).sum(over_pixels), found.sum(over_pixels), truth.sum(over_pixels)])


def _dice_loss(sums: Tensor, class_weights: Tensor) -> Tensor:
    """1 - the mean dice coefficient of the classes that a batch has, of its sums."""
    both, found, pixels = sums
    coefficients = (2 * both + SMOOTH) / (found + pixels + SMOOTH)
    weights = class_weights * (pixels > 0)
    return (weights * (1 - coefficients)).sum() / weights.sum().clamp(min=LEAST_WEIGHT)


def _weighted_sum(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of the heads' values, each at its weight; without the auxiliary head its weight is left over."""
    return sum(weight * value.detach() for weight, value in zip(weights, values, strict=False))
