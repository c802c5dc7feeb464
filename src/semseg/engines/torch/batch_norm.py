"""Batch normalisation: of the batch on one device, or of the batch of all ranks of a group (`syncbn`).

PyTorch's own SyncBatchNorm computes on GPUs alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

_OVER_PIXELS = (0, 2, 3)


class BatchNorm(nn.BatchNorm2d):  # type: ignore[misc]
    """A batch normalisation that in training accepts a single value per channel too, as MXNet's does, and none at all.

    PSP and DeepLabV3 pool an image to one position, which is one value in a batch of one image. A rank's part of a
    batch may be empty: that leaves the running statistics as they are.
    """

    synchronised = False
    """Whether training normalises with the statistics of all ranks, each of which calls this at the same time."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.synchronised:
            y, mean, variance = _Synchronised.apply(x, self.weight, self.bias, self.eps)
            self._follow(mean, variance)
            return y
        if self.training and x.numel() == x.shape[1]:
            return self._of_one_value(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def _of_one_value(self, x: Tensor) -> Tensor:
        """A value is its own mean, with variance 0: the result is the bias, and has no gradient to x and the weight."""
        self._follow(x.detach().flatten().to(self.running_mean.dtype), torch.zeros_like(self.running_var))
        return ((x - x) * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Synchronised(torch.autograd.Function):  # type: ignore[misc]
    """Normalises x (N, C, H, W), N from 0, with the mean and variance of all ranks; one all-reduce in each direction.

    Returns also that mean and the unbiased variance, which have no gradient. The gradients of weight and bias are this
    rank's part of them, as those of all other parameters are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, count = _global_moments(x, weight.dtype)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.epsilon = epsilon
        y = functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=epsilon)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        ctx.mark_non_differentiable(mean, unbiased)
        return y, mean, unbiased

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        scale = (variance + ctx.epsilon).rsqrt()
        of_weight, of_bias = _parameter_gradients(gradient, x, weight, mean, variance, scale, ctx.epsilon)
        total = torch.cat([of_weight, of_bias])
        distributed.all_reduce(total)
        mean_of_weight, mean_of_bias = (total / count).chunk(2)
        # weight scale (gradient - mean_of_bias - normalised x mean_of_weight), as two passes over the pixels
        by_gradient = weight * scale
        by_x = -by_gradient * scale * mean_of_weight
        constant = -by_gradient * mean_of_bias - by_x * mean
        of_x = torch.addcmul(_by_channel(constant), x, _by_channel(by_x)).addcmul_(gradient, _by_channel(by_gradient))
        return of_x.to(x.dtype), of_weight, of_bias, None


def _global_moments(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The mean and the biased variance over all ranks, (C,), and the number of values, ().

    The sums are in float64, in which a large mean leaves the variance its digits.
    """
    count = x.numel() // x.shape[1]
    if count:
        variance, mean = (moment.double() for moment in torch.var_mean(x.to(dtype), _OVER_PIXELS, correction=0))
    else:
        variance = mean = x.new_zeros(x.shape[1], dtype=torch.float64)
    total = torch.cat([count * mean, count * (variance + mean * mean), mean.new_full((1,), count)])
    distributed.all_reduce(total)
    sums, counted = total[:-1] / total[-1], total[-1]
    mean, square = sums.chunk(2)
    return mean.to(dtype), (square - mean * mean).clamp(min=0).to(dtype), counted.to(dtype)


def _parameter_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The sums over this rank's pixels of the gradient by the normalised x, and of the gradient, (C,)."""
    if not x.numel():
        return torch.zeros_like(weight), torch.zeros_like(weight)
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        gradient, x, weight, mean, variance, mean, scale, False, epsilon, [False, True, True]
    )
    return of_weight, of_bias


def _by_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]
