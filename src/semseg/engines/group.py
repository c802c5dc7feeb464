"""Groups of ranks that train one network together, each in a process with a device of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from semseg.types import Arrays

Number = TypeVar("Number", bound=np.generic)


class Group(Protocol):
    """The ranks of a training, as one of them sees it.

    `any`, `sum` and `barrier` are collective: they return once every rank has called them, in the same order as all
    others. They raise GroupError when another rank has failed, left, or does not come within the group's time limit.
    """

    @property
    def rank(self) -> int:
        """This rank's number, from 0; rank 0 logs and saves."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks, at least 1."""
        ...

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true on any rank."""
        ...

    def sum(self, array: NDArray[Number]) -> NDArray[Number]:
        """Return the sum over the ranks of arrays of equal shape and dtype, int64 or float64; the same on all ranks."""
        ...

    def barrier(self) -> None:
        """Return once all ranks have called it."""
        ...

    def leave(self) -> None:
        """End this rank's membership, after which none of these methods may be called.

        Waits a few seconds at most: the other ranks may stay.
        """
        ...


class Alone:
    """The group of a training on a single device."""

    rank = 0
    size = 1

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return flag

    def sum(self, array: NDArray[Number]) -> NDArray[Number]:
        """Return the array itself."""
        return array

    def barrier(self) -> None:
        """Return at once."""

    def leave(self) -> None:
        """Do nothing."""


ALONE = Alone()


@dataclass(frozen=True)
class Membership:
    """A rank's place in a group, and how the ranks find each other.

    rank, size: its number from 0, of how many. address, port: where rank 0 listens, a numeric IPv4 or IPv6 address.
    listener: for rank 0 the file descriptor of the socket that is bound to it and listens already, else None.
    interface: the network interface of all traffic between the ranks, such as ``eth0``; ``lo`` for one host.
    seconds: how long joining, and later each collective, waits for the other ranks.
    """

    rank: int
    size: int
    address: str
    port: int
    listener: int | None
    interface: str
    seconds: float


def shared_by(group: Group, data: bytes) -> bytes:
    """Return rank 0's bytes on every rank of the group; the other ranks' argument is ignored. Collective."""
    own = data if group.rank == 0 else b""
    length = int(group.sum(np.array([len(own)], np.int64))[0])
    words = np.zeros(-(-length // 8), np.int64)
    if group.rank == 0:
        words.view(np.uint8)[:length] = np.frombuffer(own, np.uint8)
    return group.sum(words).view(np.uint8)[:length].tobytes() if length else b""


def shared_arrays(group: Group, arrays: Arrays) -> Arrays:
    """Return rank 0's arrays on every rank of the group; the other ranks' argument is ignored. Collective."""
    kept = arrays if group.rank == 0 else {}
    table = [(name, array.dtype.str, array.shape) for name, array in kept.items()]
    shared = json.loads(shared_by(group, json.dumps(table).encode()))
    return {
        name: np.frombuffer(shared_by(group, kept[name].tobytes() if kept else b""), dtype).reshape(shape)
        for name, dtype, shape in shared
    }
