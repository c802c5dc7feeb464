"""How the hosts of a training meet before it begins: the others call the first one, which waits for them all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from semseg.errors import GroupError, Stopped, first_few
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.calls import (
    SOON_SECONDS,
    STOP,
    WATCH_PORT,
    Caller,
    Callers,
    failure_in,
    log_waiting,
    reason_of,
    ticks,
)
from semseg.training.failures import RAISED, Failure
from semseg.training.peers import Peer, finish


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

    Raises GroupError, which names them, for hosts that do not come within the seconds, for one with another job, and
    for one that only says why it cannot take part; Stopped when `stop` is set, or a host is stopped. All other hosts
    get the reason before: those that have come at once, and those that come later as `turn_away` tells them.
    """
    meeting = _Meeting(listener, hosts, own)
    deadline = time.monotonic() + seconds
    try:
        for _ in ticks(seconds, stop, meeting.connected):
            meeting.look()
            if not meeting.missing:
                meeting.begin()
                return list(meeting.present.values()), meeting.facts
        raise GroupError(
            f"Of the {hosts.count} hosts of the job, these have not come within {seconds / 60:g} minutes: "
            f"{first_few(meeting.missing)}.",
            "Look at their logs, and set _rendezvous_minutes if they start later.",
        )
    except Stopped:
        meeting.turn_away(STOP, SOON_SECONDS, threading.Event())
        raise
    except GroupError as error:
        if meeting.missing and (left := deadline - time.monotonic()) > 0:
            log_waiting(str(error), left)
        reason = reason_of(Failure(RAISED, str(error), error.exit_code))
        meeting.turn_away(reason, deadline - time.monotonic(), stop)
        raise


def turn_away(
    listener: socket.socket, hosts: Hosts, reason: Mapping[str, Any], seconds: float, stop: threading.Event
) -> None:
    """Tells the other hosts on the first one why there is no training, as they come, until all have been told.

    It ends when the seconds are over, or `stop` is set.
    """
    _Meeting(listener, hosts, Hello(hosts.current, {}, {})).turn_away(reason, seconds, stop)


def call(hosts: Hosts, own: Hello, seconds: float, stop: threading.Event) -> tuple[Peer, dict[str, Any]]:
    """Calls the first host until all have come; returns the connection to it, and the facts of all hosts by name.

    Its name need not resolve yet. Raises GroupError when the first host cannot be reached within the seconds, or says
    why there is no training; Stopped when `stop` is set before that has begun, or the first host is stopped.
    """
    caller = Caller(hosts.names[0], own.message())
    try:
        facts = _facts(caller, hosts, seconds, stop)
    except (GroupError, Stopped):
        caller.peer.close()
        raise
    return caller.peer, facts


def _facts(caller: Caller, hosts: Hosts, seconds: float, stop: threading.Event) -> dict[str, Any]:
    try:
        for _ in ticks(seconds, stop):
            if facts := caller.look():
                return facts
    except Stopped:
        if stop.is_set() and (facts := caller.leave()):
            return facts
        raise
    raise GroupError(
        f"The first host of the job, {hosts.names[0]}, has not begun within {seconds / 60:g} minutes: "
        f"{caller.problem}.",
        f"Look at its log, and whether its port {WATCH_PORT} can be reached. _rendezvous_minutes is the time to wait.",
    )


class _Meeting:
    """The hosts that have come to the first one. present: by name. facts: of these and of the first host."""

    def __init__(self, listener: socket.socket, hosts: Hosts, own: Hello) -> None:
        self.present: dict[str, Peer] = {}
        self.facts: dict[str, Any] = {own.host: dict(own.facts)}
        self._hosts, self._own = hosts, own
        self._listener, self._callers = listener, Callers(listener, self._take)
        self._reason: Mapping[str, Any] | None = None

    def connected(self) -> list[Any]:
        """Returns what becomes ready when there is something to look at."""
        return [self._listener, *self._callers.strangers, *([] if self._reason else self.present.values())]

    @property
    def missing(self) -> list[str]:
        """The hosts that have not come."""
        return [name for name in self._hosts.names[1:] if name not in self.present]

    def look(self) -> None:
        """Accepts connections and takes what they say. Raises GroupError and Stopped."""
        self._callers.look()
        for name, peer in list(self.present.items()):
            for message in peer.receive():
                self._take(peer, message)
            if peer.closed:
                LOGGER.warning("The host %s has left before the training began.", name)
                peer.close()
                del self.present[name]

    def begin(self) -> None:
        """Sends the facts to all hosts, which have come, and closes the connections of others."""
        for peer in self.present.values():
            peer.send({"start": self.facts})
        self._callers.close()

    def turn_away(self, reason: Mapping[str, Any], seconds: float, stop: threading.Event) -> None:
        """Sends the reason to all that have come, and to the others as they come; closes the connections."""
        self._reason = reason
        for peer in self.present.values():
            peer.send_last(reason)
        with suppress(Stopped):
            for _ in ticks(seconds if self.missing else 0.0, stop, self.connected):
                self._callers.look()
                if not self.missing:
                    break
        self._callers.close()
        finish(self.present.values())

    def _take(self, peer: Peer, message: Mapping[str, Any]) -> None:
        name = str(peer.name or message.get("hello"))
        if name not in self._hosts.names[1:]:
            return
        failure = failure_in(message)
        if self._reason or "stop" in message or failure:
            self._come(name, peer)
        if self._reason:
            peer.send_last(self._reason)
            return
        if "stop" in message:
            raise Stopped
        if failure:
            raise failure.error()
        job, facts = message.get("job"), message.get("facts")
        if peer.name or not isinstance(job, dict) or not isinstance(facts, dict):
            return
        self._come(name, peer)
        self.facts[name] = facts
        LOGGER.info("The host %s has come; %d of %d hosts are here.", name, len(self.present) + 1, self._hosts.count)
        differing = [what for what, digest in self._own.job.items() if job.get(what) != digest]
        if differing:
            raise GroupError(
                f"The hosts {self._own.host} and {name} differ in {', '.join(differing)}.",
                "Start all hosts with the same image, configuration and data.",
                exit_code=1,
            )

    def _come(self, name: str, peer: Peer) -> None:
        earlier = self.present.get(name, peer)
        if earlier is not peer:
            earlier.close()  # it calls again, as it found its connection broken
        peer.name, self.present[name] = name, peer
