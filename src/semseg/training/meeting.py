"""How the hosts of a training find each other: the others call the first one, which waits for them all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from semseg.errors import GroupError, Stopped, first_few
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.failures import RAISED, Failure
from semseg.training.peers import Peer

WATCH_PORT = 29400
"""The port of the first host at which the processes of `train` meet, and are connected while they train."""

_TICK = 1.0
_CONNECT_SECONDS = 5.0
_HELLO_SECONDS = 10.0
_MOST_STRANGERS = 64
"""Connections that have not said who they are; more than these are closed at once."""


@dataclass(frozen=True)
class Hello:
    """What a host says of itself: its name, what must be the same on all hosts, and what the others need.

    job: by description, such as ``the hyperparameters``, a digest. facts: JSON values by name.
    """

    host: str
    job: Mapping[str, str]
    facts: Mapping[str, Any]

    def message(self) -> dict[str, Any]:
        """Returns the message that says this."""
        return {"hello": self.host, "job": dict(self.job), "facts": dict(self.facts)}


def gather(
    listener: socket.socket, hosts: Hosts, own: Hello, seconds: float, stop: threading.Event
) -> tuple[list[Peer], dict[str, Any]]:
    """Waits on the first host for all others; returns the connections, and the facts of all hosts by name.

    Raises GroupError, which names them, for hosts that do not come within the seconds, and for one with another job;
    Stopped when `stop` is set, or a host is stopped. Those that have come get the reason.
    """
    meeting = _Meeting(listener, hosts, own)
    try:
        for _ in _ticks(seconds, stop, lambda: [listener, *meeting.connected]):
            meeting.look()
            if not meeting.missing:
                meeting.begin()
                return list(meeting.present.values()), meeting.facts
    except Stopped:
        meeting.dismiss({"stop": True})
        raise
    error = GroupError(
        f"Of the {hosts.count} hosts of the job, these have not come within {seconds / 60:g} minutes: "
        f"{first_few(meeting.missing)}.",
        "Look at their logs, and set _rendezvous_minutes if they start later.",
    )
    meeting.refuse(error)
    raise error


def call(hosts: Hosts, own: Hello, seconds: float, stop: threading.Event) -> tuple[Peer, dict[str, Any]]:
    """Calls the first host until all have come; returns the connection to it, and the facts of all hosts by name.

    Its name need not resolve yet. Raises GroupError when the first host cannot be reached within the seconds, or says
    why there is no training; Stopped when `stop` is set, or the first host is stopped.
    """
    caller = _Caller(hosts.names[0], own)
    try:
        for _ in _ticks(seconds, stop):
            if facts := caller.look():
                return caller.peer, facts
    except Stopped:
        caller.leave()
        raise
    except GroupError:
        caller.peer.close()
        raise
    caller.peer.close()
    minutes = f"{seconds / 60:g} minutes"
    raise GroupError(
        f"The first host of the job, {hosts.names[0]}, has not begun within {minutes}: {caller.problem}.",
        f"Look at its log, and whether its port {WATCH_PORT} can be reached. _rendezvous_minutes is the time to wait.",
    )


class _Caller:
    """Calls the first host. peer: the connection, closed if there is none. problem: why there is none."""

    def __init__(self, first: str, own: Hello) -> None:
        self.peer = Peer(socket.socket(), first)
        self.peer.close()
        self.problem = "it has not answered"
        self._first, self._own = first, own

    def look(self) -> dict[str, Any] | None:
        """Connects or takes what the first host says; returns the facts. Raises its GroupError, and Stopped."""
        if self.peer.closed:
            self._connect()
            return None
        for message in self.peer.receive():
            if "start" in message and isinstance(message["start"], dict):
                return message["start"]
            if "stop" in message:
                raise Stopped
            if "end" in message:
                raise Failure.from_json(str(message["end"])).error()
        return None

    def leave(self) -> None:
        """Says that the job is stopped, if the first host is there."""
        if self.peer.closed:
            self._connect()
        self.peer.send({"stop": True})
        self.peer.finish()

    def _connect(self) -> None:
        self.peer.close()
        try:
            connected = socket.create_connection((self._first, WATCH_PORT), _CONNECT_SECONDS)
        except socket.gaierror:
            self.problem = "its name does not resolve"
        except OSError as error:
            self.problem = f"it cannot be reached ({error.strerror or error})"
        else:
            self.peer, self.problem = Peer(connected, self._first), "not all hosts have come"
            self.peer.send(self._own.message())


def _ticks(seconds: float, stop: threading.Event, waited_for: Callable[[], list[Any]] = list) -> Iterator[None]:
    """Yields whenever something is ready, and every second, for some seconds. Raises Stopped once `stop` is set."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.wait(waited_for(), _TICK)
        if stop.is_set():
            raise Stopped
        yield


class _Meeting:
    """The hosts that have come to the first one. present: by name. facts: of these and of the first host."""

    def __init__(self, listener: socket.socket, hosts: Hosts, own: Hello) -> None:
        self.present: dict[str, Peer] = {}
        self.facts: dict[str, Any] = {own.host: dict(own.facts)}
        self._listener, self._hosts, self._own = listener, hosts, own
        self._strangers: list[Peer] = []
        self._listener.setblocking(False)

    @property
    def connected(self) -> list[Peer]:
        """All connections that are open."""
        return [*self.present.values(), *self._strangers]

    @property
    def missing(self) -> list[str]:
        """The hosts that have not come."""
        return [name for name in self._hosts.names[1:] if name not in self.present]

    def look(self) -> None:
        """Accepts connections and takes what they say. Raises GroupError and Stopped."""
        with suppress(BlockingIOError, ConnectionError):
            accepted, _ = self._listener.accept()
            self._strangers.append(Peer(accepted))
        for peer in self.connected:
            for message in peer.receive():
                self._take(peer, message)
        for name, peer in list(self.present.items()):
            if peer.closed:
                LOGGER.warning("The host %s has left before the training began.", name)
                peer.close()
                del self.present[name]
        now, strangers = time.monotonic(), self._strangers
        self._strangers = []
        for number, peer in enumerate(strangers):
            if peer.closed or now - peer.heard > _HELLO_SECONDS or number >= _MOST_STRANGERS:
                peer.close()
            elif not peer.name:
                self._strangers.append(peer)

    def begin(self) -> None:
        """Sends the facts to all hosts, which have come, and closes the connections of others."""
        for peer in self.present.values():
            peer.send({"start": self.facts})
        for peer in self._strangers:
            peer.close()

    def refuse(self, error: GroupError) -> None:
        """Sends all that have come why there is no training, and closes the connections."""
        self.dismiss({"end": Failure(RAISED, str(error), error.exit_code).to_json()})

    def dismiss(self, message: Mapping[str, Any]) -> None:
        """Sends a last message to all that have come, and closes the connections."""
        for peer in self.present.values():
            peer.send(message)
        for peer in self.connected:
            peer.finish()

    def _take(self, peer: Peer, message: Mapping[str, Any]) -> None:
        if "stop" in message and peer.name:
            raise Stopped
        name, job, facts = (message.get(key) for key in ("hello", "job", "facts"))
        if peer.name or name not in self._hosts.names[1:] or not isinstance(job, dict) or not isinstance(facts, dict):
            return
        if name in self.present:
            self.present[name].close()  # it calls again, as it found its connection broken
        peer.name = str(name)
        self.present[peer.name], self.facts[peer.name] = peer, facts
        LOGGER.info("The host %s has come; %d of %d hosts are here.", name, len(self.present) + 1, self._hosts.count)
        differing = [what for what, digest in self._own.job.items() if job.get(what) != digest]
        if differing:
            error = GroupError(
                f"The hosts {self._own.host} and {name} differ in {', '.join(differing)}.",
                "Start all hosts with the same image, configuration and data.",
                exit_code=1,
            )
            self.refuse(error)
            raise error
