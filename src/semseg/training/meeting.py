"""How the hosts of a training meet before it begins: the others call the first one, which waits for them all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from semseg.errors import GroupError, Stopped, first_few
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.calls import STOP, WATCH_PORT, Caller, Callers, failure_in, reason_of, ticks
from semseg.training.failures import RAISED, Failure
from semseg.training.peers import Peer


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
    for one that only says why it cannot take part; Stopped when `stop` is set, or a host is stopped. Those that have
    come get the reason.
    """
    meeting = _Meeting(listener, hosts, own)
    try:
        for _ in ticks(seconds, stop, lambda: [listener, *meeting.connected]):
            meeting.look()
            if not meeting.missing:
                meeting.begin()
                return list(meeting.present.values()), meeting.facts
    except Stopped:
        meeting.dismiss(STOP)
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
    caller = Caller(hosts.names[0], own.message())
    try:
        for _ in ticks(seconds, stop):
            if facts := caller.look():
                return caller.peer, facts
    except (GroupError, Stopped) as ended:
        if isinstance(ended, Stopped) and stop.is_set():
            caller.leave()
        caller.peer.close()
        raise
    caller.peer.close()
    minutes = f"{seconds / 60:g} minutes"
    raise GroupError(
        f"The first host of the job, {hosts.names[0]}, has not begun within {minutes}: {caller.problem}.",
        f"Look at its log, and whether its port {WATCH_PORT} can be reached. _rendezvous_minutes is the time to wait.",
    )


class _Meeting:
    """The hosts that have come to the first one. present: by name. facts: of these and of the first host."""

    def __init__(self, listener: socket.socket, hosts: Hosts, own: Hello) -> None:
        self.present: dict[str, Peer] = {}
        self.facts: dict[str, Any] = {own.host: dict(own.facts)}
        self._hosts, self._own = hosts, own
        self._callers = Callers(listener, self._take)

    @property
    def connected(self) -> list[Peer]:
        """All connections that are open."""
        return [*self.present.values(), *self._callers.strangers]

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

    def refuse(self, error: GroupError) -> None:
        """Sends all that have come why there is no training, and closes the connections."""
        self.dismiss(reason_of(Failure(RAISED, str(error), error.exit_code)))

    def dismiss(self, message: Mapping[str, Any]) -> None:
        """Sends a last message to all that have come, and closes the connections."""
        self._callers.close()
        for peer in self.present.values():
            peer.send(message)
        for peer in self.present.values():
            peer.finish()

    def _take(self, peer: Peer, message: Mapping[str, Any]) -> None:
        name = peer.name or message.get("hello")
        if name not in self._hosts.names[1:]:
            return
        if "stop" in message:
            raise Stopped
        if failure := failure_in(message):
            self._refused(failure.error())
        job, facts = message.get("job"), message.get("facts")
        if peer.name or not isinstance(job, dict) or not isinstance(facts, dict):
            return
        if name in self.present:
            self.present[name].close()  # it calls again, as it found its connection broken
        peer.name = str(name)
        self.present[peer.name], self.facts[peer.name] = peer, facts
        LOGGER.info("The host %s has come; %d of %d hosts are here.", name, len(self.present) + 1, self._hosts.count)
        differing = [what for what, digest in self._own.job.items() if job.get(what) != digest]
        if differing:
            self._refused(
                GroupError(
                    f"The hosts {self._own.host} and {name} differ in {', '.join(differing)}.",
                    "Start all hosts with the same image, configuration and data.",
                    exit_code=1,
                )
            )

    def _refused(self, error: GroupError) -> NoReturn:
        """Ends the meeting. Raises the error."""
        self.refuse(error)
        raise error
