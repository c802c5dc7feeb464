"""Trains the copies of a network on the ranks of a group as one network, each on its part of every batch."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from semseg.engines.group import Group
from semseg.engines.torch.batch_norm import BatchNorm
from semseg.engines.torch.network import TorchNetwork
from semseg.errors import GroupError
from semseg.types import Arrays


class OneDevice:
    """A network that trains on whole batches, with the methods of `DataParallel`."""

    rank = 0

    def __init__(self, network: TorchNetwork) -> None:
        self.module: Any = network

    def total(self, sums: Tensor, images: int) -> tuple[Tensor, int]:
        """Return both as they are."""
        return sums, images

    def share_statistics(self, images: int, all_images: int) -> None:
        """Do nothing."""

    def require_equal(self, read: Callable[[], Arrays]) -> None:
        """Do nothing."""


class DataParallel:
    """A rank's copy of a network, whose gradients are those of one process with the batch of all ranks.

    A step of training makes these collective calls: one for the sums over pixels, between the forward and the backward
    pass; one for each bucket of gradients; and one for the running statistics, or with `syncbn` two for each batch
    normalisation instead. Of FCN-ResNet50 they are 8, or 121 with `syncbn`, and carry 142 MB of gradients in 6 buckets,
    and besides 0.2 MB, or 0.7 MB. A bucket is sent as soon as it is full, while the backward pass goes on, but for the
    last one (10 MB) which ends it; the other calls overlap with nothing.

    DistributedDataParallel adds up the gradients. A rank whose part of a batch is empty takes part too: all its layers
    compute on no images, so its gradients are 0. What does not require a gradient is left out.
    """

    def __init__(self, network: TorchNetwork, group: Group, syncbn: bool, statistics: Sequence[Tensor]) -> None:
        """network: on its device, in its memory format, with `requires_grad` set; all its values may change later.

        statistics: the running statistics that training changes. The group must be one that `TorchEngine.join` made.
        """
        self._group = group
        self._statistics = [] if syncbn else list(statistics)
        for layer in network.modules():
            if isinstance(layer, BatchNorm):
                layer.synchronised = syncbn
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.13 renames broadcast_buffers, which 2.12 needs
            self.module: Any = DistributedDataParallel(
                network, broadcast_buffers=False, init_sync=False, gradient_as_bucket_view=True
            )

    @property
    def rank(self) -> int:
        """This rank's number, from 0."""
        return self._group.rank

    def total(self, sums: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """Return the sums, of any shape, and the number of images of the whole batch.

        An objective of these sums, computed alike on all ranks, is differentiated as if it were this rank's alone.
        """
        own = torch.cat([sums.flatten(), sums.new_full((1,), images)])
        total = _Total.apply(own, self._group.size)
        return total[:-1].reshape(sums.shape), total[-1].detach()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def share_statistics(self, images: int, all_images: Tensor) -> None:
        """Set the running statistics to their mean over the ranks, weighted by the images that each had.

        They change linearly, so they are the same as if they were averaged only before they are used.
        """
        if not self._statistics:
            return
        flat = torch.cat(self._statistics).mul_(images / all_images)
        distributed.all_reduce(flat)
        sizes = [len(statistic) for statistic in self._statistics]
        torch._foreach_copy_(self._statistics, flat.split(sizes))

    def require_equal(self, read: Callable[[], Arrays]) -> None:
        """Raise GroupError on all ranks unless they read the same state: the update would not be that of any."""
        sums = np.zeros(self._group.size, np.int64)
        sums[self.rank] = _checksum(read())
        sums = self._group.sum(sums)
        differing = np.flatnonzero(sums != sums[0])
        if len(differing):
            raise GroupError(
                f"Rank {differing[0]} of the training starts with other parameters than rank 0.",
                "Give all hosts the same files, and the same version of this project.",
            )


class _Total(torch.autograd.Function):  # type: ignore[misc]
    """The sum over the ranks of a vector.

    Its gradient is this rank's own, by the number of ranks: DistributedDataParallel divides by that.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.ranks, None


def _checksum(arrays: Arrays) -> int:
    """A CRC-32 of the names and values."""
    found = 0
    for name, array in sorted(arrays.items()):
        found = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), found))
    return found
