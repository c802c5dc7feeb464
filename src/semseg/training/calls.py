"""How the other hosts of a training reach the first one: before the training begins they call it, on a fixed port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from semseg.errors import Stopped, UserError, first_few
from semseg.machine import address_of
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.failures import Failure
from semseg.training.peers import Peer

WATCH_PORT = 29400
"""The port of the first host at which the processes of `train` meet, and are connected while they train."""

STOP: Mapping[str, Any] = {"stop": True}
"""The message of a host that was asked to stop before the training began."""

SOON_SECONDS = 10.0
"""How long a host says why there is no training to those that wait for it already, and call every second: if it is
stopped, or if its hyperparameters are wrong, which are the same for all hosts."""

_TICK = 1.0
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_HELLO_SECONDS = 10.0
_MOST_STRANGERS = 64
"""Connections that have not said who they are; more than these are closed at once."""


def listening(interface: str, port: int) -> socket.socket:
    """Returns a socket that listens at the IPv4 address of a network interface alone.

    Raises UserError if that has no address, or the port is in use.
    """
    address = address_of(interface)
    if not address:
        others = [name for _, name in socket.if_nameindex() if name != interface]
        raise UserError(
            f"The network interface {interface} of resourceconfig.json has no IPv4 address on this host, which has "
            f"{first_few(others)}.",
            "Set network_interface_name to the interface between the hosts.",
        )
    try:
        return socket.create_server((address, port))
    except OSError as error:
        raise UserError(
            f"The port {port} of {address} cannot be used for the training on several hosts: {error.strerror}.",
            "End what uses it.",
        ) from error


def reason_of(failure: Failure) -> dict[str, Any]:
    """Returns the message with which a host says why there is no training."""
    return {"end": failure.to_json()}


def log_waiting(reason: str, seconds: float) -> None:
    """Logs why there is no training, and how long this host waits to tell the others."""
    LOGGER.error("%s This host waits up to %.1f minutes for the others, to tell them.", reason, seconds / 60)


def failure_in(message: Mapping[str, Any]) -> Failure | None:
    """Returns the failure in a message of `reason_of`; None if it is another one."""
    try:
        return Failure.from_json(str(message["end"])) if "end" in message else None
    except ValueError:
        return None


def ticks(seconds: float, stop: threading.Event, waited_for: Callable[[], list[Any]] = list) -> Iterator[None]:
    """Yields whenever something is ready, and every second, for some seconds. Raises Stopped once `stop` is set, after
    it has yielded once more: what has come before the stop counts.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.wait(waited_for(), _TICK)
        yield
        if stop.is_set():
            raise Stopped


class Caller:
    """Calls the first host. peer: the connection, closed if there is none. problem: why there is none."""

    def __init__(self, first: str, message: Mapping[str, Any]) -> None:
        """message: what this host says when it reaches the first one."""
        self.peer = Peer(socket.socket(), first)
        self.peer.close()
        self.problem = "it has not answered"
        self._first, self._message = first, message

    def look(self) -> dict[str, Any] | None:
        """Connects or takes what the first host says; returns the facts. Raises its GroupError, and Stopped."""
        if self.peer.closed:
            self.connect()
            return None
        for message in self.peer.receive():
            if "start" in message and isinstance(message["start"], dict):
                return message["start"]
            if "stop" in message:
                raise Stopped
            if failure := failure_in(message):
                raise failure.error()
        return None

    def leave(self) -> dict[str, Any] | None:
        """Says that the job is stopped, if the first host is there; returns the facts if that has begun before.

        Then the others take this host for one of them, and all stop together. Raises as `look` does.
        """
        if self.peer.closed:
            self.connect()
        self.peer.send(STOP)
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self.peer.closed and (left := deadline - time.monotonic()) > 0:
            connection.wait([self.peer.fileno()], left)
            if facts := self.look():
                return facts
        return None

    def connect(self) -> None:
        """Makes the connection and says the message, if the first host can be reached."""
        self.peer.close()
        try:
            connected = socket.create_connection((self._first, WATCH_PORT), _CONNECT_SECONDS)
            address = str(connected.getpeername()[0])
        except socket.gaierror:
            self.problem = "its name does not resolve"
        except OSError as error:
            self.problem = f"it cannot be reached ({error.strerror or error})"
        else:
            self.peer, self.problem = Peer(connected, self._first, address), "not all hosts have come"
            self.peer.send(self._message)


class Callers:
    """The calls that the first host gets. strangers: the connections that have not said whose they are.

    take: is given what a stranger says, and names the connection if it is a host's.
    """

    def __init__(self, listener: socket.socket, take: Callable[[Peer, Mapping[str, Any]], None]) -> None:
        self.strangers: list[Peer] = []
        self._listener, self._take = listener, take
        self._listener.setblocking(False)

    def look(self) -> None:
        """Accepts a connection, and takes what strangers say. Raises what `take` raises."""
        with suppress(BlockingIOError, ConnectionError):
            accepted, _ = self._listener.accept()
            self.strangers.append(Peer(accepted))
        try:
            for peer in self.strangers:
                for message in peer.receive():
                    self._take(peer, message)
        finally:
            self._sort_out()

    def _sort_out(self) -> None:
        now, strangers = time.monotonic(), [peer for peer in self.strangers if not peer.name]
        self.strangers = []
        for number, peer in enumerate(strangers):
            if peer.closed or now - peer.heard > _HELLO_SECONDS or number >= _MOST_STRANGERS:
                peer.close()
            else:
                self.strangers.append(peer)

    def close(self) -> None:
        """Closes the connections of strangers."""
        for peer in self.strangers:
            peer.close()
