"""A group of processes that numpy can form: the ranks send their arrays to rank 0, which sends back the sum."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from semseg.engines.group import Membership
from semseg.errors import GroupError


class SocketGroup:
    """One rank, connected to rank 0, or rank 0, connected to all others."""

    def __init__(self, membership: Membership) -> None:
        self.rank, self.size = membership.rank, membership.size
        with _others_lost():
            if membership.listener is None:
                address = membership.address, membership.port
                self._peers = [socket.create_connection(address, membership.seconds)]
                self._peers[0].sendall(struct.pack("<i", self.rank))
            else:
                self._peers = self._accepted(membership.listener, membership.seconds)

    def _accepted(self, listener: int, seconds: float) -> list[socket.socket]:
        accepted: dict[int, socket.socket] = {}
        with socket.socket(fileno=listener) as listening:
            listening.settimeout(seconds)
            while len(accepted) < self.size - 1:
                peer, _ = listening.accept()
                peer.settimeout(seconds)
                accepted[struct.unpack("<i", _received(peer, 4))[0]] = peer
            listening.detach()
        return [accepted[rank] for rank in sorted(accepted)]

    def any(self, flag: bool) -> bool:
        return bool(self.sum(np.array([flag], np.int64))[0])

    def sum(self, array: Any) -> Any:
        assert array.dtype in (np.int64, np.float64)
        own = np.ascontiguousarray(array)
        with _others_lost():
            if self.rank == 0:
                for peer in self._peers:
                    own = own + np.frombuffer(_received(peer, own.nbytes), own.dtype).reshape(own.shape)
                for peer in self._peers:
                    peer.sendall(own.tobytes())
                return own
            self._peers[0].sendall(own.tobytes())
            return np.frombuffer(_received(self._peers[0], own.nbytes), own.dtype).reshape(own.shape)

    def barrier(self) -> None:
        self.any(False)

    def leave(self) -> None:
        for peer in self._peers:
            peer.close()


@contextmanager
def _others_lost() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GroupError(f"Another rank is lost: {error}.") from error


def _received(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            raise OSError("its connection is closed")
        data += part
    return data
