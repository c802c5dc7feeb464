"""How the hosts of a training hear of each other's end: the first one is connected to all others, and decides.

Each host sends a sign of life every few seconds. A failure goes to the first host, which waits for those that explain
it, and then sends the cause to all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from semseg.training.failures import DIED, Failure
from semseg.training.peers import Peer, finish

SILENCE_SECONDS = 45.0
"""How long a host may be silent before the training fails: it is stopped, cut off, or its machine is down."""

_BEAT_SECONDS = 5.0


class HostLink:
    """This host's connections: those of the first host to all others, or another host's to the first one.

    verdict: what the first host has found to be the cause of the end; None before. over: whether the first host says
    that all have ended well. stopping: whether any other host is asked to stop.
    """

    def __init__(self, peers: Sequence[Peer], is_first: bool) -> None:
        self.is_first = is_first
        self.verdict: Failure | None = None
        self.over = False
        self.stopping = False
        self._peers = list(peers)
        self._begun = time.monotonic()  # before it, hosts that wait for others say nothing
        self._beaten = 0.0
        self._done: set[Peer] = set()
        self._failed: set[Peer] = set()
        self._said_done = False
        self._said_stopping = False

    @property
    def waited_for(self) -> list[int]:
        """What becomes ready when there is something to `poll`."""
        return [peer.fileno() for peer in self._peers if not peer.closed]

    def poll(self) -> list[Failure]:
        """Sends a sign of life if it is time, and returns the new failures of other hosts."""
        now = time.monotonic()
        if now - self._beaten >= _BEAT_SECONDS:
            self._beaten = now
            self._send({"beat": True})
        return [failure for peer in self._peers for failure in self._failures_of(peer)]

    def report(self, failure: Failure) -> None:
        """Sends a failure of this host's ranks to the first host."""
        if not self.is_first:
            self._send({"failed": failure.to_json()})

    def say_done(self) -> None:
        """Says that this host's ranks have ended well; on the first host, that all have, once they have said so."""
        if self.is_first and len(self._done) == len(self._peers) and not self.over:
            self.over = True
            self._send({"over": True})
        elif not self.is_first and not self._said_done:
            self._said_done = True
            self._send({"done": True})

    def say_stopping(self) -> None:
        """Says once that this host is asked to stop. The first one says it to all, also if it has heard it itself.

        The ranks agree on a stop after a step: those that wait for data meanwhile would keep all others waiting.
        """
        if not self._said_stopping:
            self._said_stopping = True
            self._send({"stopping": True})

    def fail(self, failure: Failure) -> None:
        """Sends a failure of this host itself: to the first one, or from that to all, as the cause of the end."""
        self.report(failure)
        self.end(failure)

    def end(self, cause: Failure) -> None:
        """Sends the cause of the end to all hosts, from the first one."""
        if self.is_first:
            self._send({"end": cause.to_json()})

    def close(self) -> None:
        """Closes the connections; the other hosts get all that was sent before."""
        finish(self._peers)

    def _send(self, message: dict[str, object]) -> None:
        for peer in self._peers:
            peer.send(message)

    def _failures_of(self, peer: Peer) -> list[Failure]:
        found = []
        for message in peer.receive():
            if "done" in message:
                self._done.add(peer)
            self.stopping = self.stopping or "stopping" in message
            if "over" in message and not self.is_first:
                self.over = True
            if "failed" in message or "end" in message:
                found += self._received(peer, message)
        if peer in self._done or peer in self._failed or self.over or self.verdict:
            return found
        silent = time.monotonic() - max(peer.heard, self._begun)
        if peer.closed or silent > SILENCE_SECONDS:
            self._failed.add(peer)
            ended = "has ended, or its connection is lost: its log may show why"
            quiet = f"has not been heard from for {SILENCE_SECONDS:g} s: it is stopped, cut off, or down"
            found.append(Failure(DIED, f"The host {peer.name} {ended if peer.closed else quiet}."))
        return found

    def _received(self, peer: Peer, message: dict[str, object]) -> list[Failure]:
        """Takes a failure of another host, or the first host's verdict."""
        try:
            failure = Failure.from_json(str(message.get("failed", message.get("end"))))
        except ValueError:
            return []
        if "end" in message and not self.is_first:
            self.verdict = failure
            return []
        self._failed.add(peer)
        return [failure]
