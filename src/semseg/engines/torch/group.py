"""The group of ranks of a training: torch.distributed's, over gloo between CPUs, and over nccl between GPUs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from semseg.engines.group import Membership, Number
from semseg.engines.torch import faults
from semseg.errors import GroupError, first_few

LEAVING_SECONDS = 3.0
"""How long a rank that leaves may wait for its connections to end. gloo closes them at once; NCCL waits until all has
been sent, and all ranks leave: for ever if this rank alone leaves, because of an error. What watches the ranks waits
five seconds for their ends once one has reported an error, so this is less."""

NOTED_SECONDS = 60.0
"""How long a rank waits in a sum before it notes so in the store, where others see which ranks are not waited for."""

_LONGER = 120.0
"""Seconds that PyTorch's own calls wait longer than a sum, which every step has: its error says more than theirs."""


class TorchGroup:
    """This process's membership in torch.distributed's default group, of which a process has one at a time.

    Host arrays travel over gloo on GPUs too: the flags of a step then do not wait for the GPU.
    """

    def __init__(self, membership: Membership, device: Any) -> None:
        """Join the group; waits for the other ranks. device: this rank's torch.device.

        Raises GroupError when a rank does not come within the membership's seconds, or the address cannot be used.
        """
        self.rank, self.size = membership.rank, membership.size
        self._seconds, self._sums = membership.seconds, 0
        os.environ["GLOO_SOCKET_IFNAME"] = membership.interface
        os.environ["NCCL_SOCKET_IFNAME"] = f"={membership.interface}"  # = for this name alone, not those it begins
        timeout = timedelta(seconds=membership.seconds)
        with faults.translated_group(
            "The ranks of the training cannot be connected",
            f"Check that this host has the network interface {membership.interface} and reaches {membership.address}, "
            f"port {membership.port}, and see the logs of the other ranks.",
        ):
            self._store = distributed.TCPStore(
                membership.address,
                membership.port,
                self.size,
                is_master=self.rank == 0,
                timeout=timeout,
                wait_for_workers=False,
                master_listen_fd=None if membership.listener is None else os.dup(membership.listener),  # it closes it
            )
            _meet(self._store, membership)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=timeout + timedelta(seconds=_LONGER),
            )

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true on any rank; see `Group`."""
        return bool(self.sum(np.array([flag], np.int64))[0])

    def sum(self, array: NDArray[Number]) -> NDArray[Number]:
        """Return the sum of the ranks' arrays, int64 or float64; see `Group`."""
        total = torch.tensor(array)
        with faults.translated_group():
            self._wait(distributed.all_reduce(total, async_op=True))
        found: NDArray[Number] = total.numpy()
        return found

    def barrier(self) -> None:
        """Return once all ranks have called it; see `Group`."""
        self.any(False)

    def _wait(self, work: Any) -> None:
        """Wait for the sum to end. Raises GroupError with the ranks that do not come to it in time."""
        self._sums += 1
        deadline = time.monotonic() + self._seconds
        while not _has_ended(work, min(NOTED_SECONDS, deadline - time.monotonic())):
            self._store.set(_note(self.rank), str(self._sums))
            if time.monotonic() >= deadline:
                missing = [rank for rank in range(self.size) if not self._waits(rank)]
                raise _missing(missing, self.size, self._seconds, "See the logs of their hosts: they hang.")

    def _waits(self, rank: int) -> bool:
        """Whether a rank waits in the same sum as this one."""
        return self._store.check([_note(rank)]) and int(self._store.get(_note(rank))) == self._sums

    def leave(self) -> None:
        """Close the connections to the other ranks, of which those that still wait for this one get an error.

        Returns after LEAVING_SECONDS at the latest; what then is not closed will be with the process.
        """
        closing = threading.Thread(target=_close, daemon=True)
        closing.start()
        closing.join(LEAVING_SECONDS)


def _close() -> None:
    with suppress(RuntimeError):  # of connections that are broken already
        distributed.destroy_process_group()


def _has_ended(work: Any, seconds: float) -> bool:
    """Return whether a collective call ends within the seconds. Raises its error."""
    try:
        work.wait(timedelta(seconds=max(seconds, 0.001)))  # 0 would be for ever
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()
    return True


def _meet(store: Any, membership: Membership) -> None:
    """Wait until all ranks have come, and raise GroupError with the missing ones if they do not."""
    store.set(_key(membership.rank), "here")
    try:
        store.wait([_key(rank) for rank in range(membership.size)])
    except distributed.DistStoreError as error:
        missing = [rank for rank in range(membership.size) if not store.check([_key(rank)])]
        hint = f"See the logs of their hosts, and whether these reach {membership.address}, port {membership.port}."
        raise _missing(missing, membership.size, membership.seconds, hint) from error


def _missing(missing: Sequence[int], size: int, seconds: float, hint: str) -> GroupError:
    return GroupError(
        f"Of the {size} ranks of the training, these have not come within {seconds:g} seconds: {first_few(missing)}.",
        hint,
    )


def _key(rank: int) -> str:
    return f"rank/{rank}"


def _note(rank: int) -> str:
    """Where a rank notes the number of the sum that it waits in."""
    return f"waits/{rank}"
