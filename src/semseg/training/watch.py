"""Watches the ranks of this host and the other hosts, and finds the cause when they fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from multiprocessing import connection

from semseg.training.failures import LOST, Failure, cause_of
from semseg.training.host_link import SILENCE_SECONDS, HostLink
from semseg.training.local_ranks import LocalRank

_TICK = 1.0
"""Seconds between two looks at what is watched."""

_SETTLE = 5.0
"""Seconds from the first failure to the choice of the cause among those that follow it."""

_VERDICT = 10.0
"""Seconds more that the other hosts wait for what the first one finds to be the cause."""


def watch(ranks: Sequence[LocalRank], link: HostLink | None, stop: threading.Event) -> None:
    """Returns when all ranks of all hosts have ended well; once `stop` is set, those of all hosts are sent SIGTERM.

    link: to the other hosts, None if there are none; a stop of any of them sets `stop`. Raises GroupError with the
    cause when anything fails.
    """
    found: list[Failure] = []
    failed: set[LocalRank] = set()
    since = 0.0
    while not found or time.monotonic() < since + _patience(found, link):
        waited_for = [*(one for rank in ranks for one in rank.waited_for), *(link.waited_for if link else [])]
        connection.wait(waited_for, _TICK)
        all_ended = all(rank.has_ended for rank in ranks)  # before they are asked why: one may end meanwhile
        new = link.poll() if link else []
        for rank in ranks:
            if rank not in failed and (failure := rank.poll()):
                failed.add(rank)
                new.append(failure)
                if link:
                    link.report(failure)
        _pass_on(stop, ranks, link)
        since = since if found else time.monotonic()
        found += new
        if link and link.verdict:
            raise link.verdict.error()
        if not found and all(rank.has_ended_well for rank in ranks) and _all_over(link):
            return
        if found and not link and all_ended:
            break
    cause = cause_of(found)
    if link:
        link.end(cause)
    raise cause.error()


def _pass_on(stop: threading.Event, ranks: Sequence[LocalRank], link: HostLink | None) -> None:
    """Sets `stop` if another host is asked to stop; once it is set, asks the ranks and the other hosts to stop."""
    if link and link.stopping:
        stop.set()
    if stop.is_set():
        for rank in ranks:
            rank.terminate()
        if link:
            link.say_stopping()


def _patience(found: Sequence[Failure], link: HostLink | None) -> float:
    """How long to wait from the first failure on for others that explain it, such as the silence of a host."""
    if link is None:
        return _SETTLE
    unexplained = cause_of(found).kind == LOST
    return _SETTLE + (SILENCE_SECONDS if unexplained else 0.0) + (0.0 if link.is_first else _VERDICT)


def _all_over(link: HostLink | None) -> bool:
    """Says to the other hosts that this one has ended well; returns whether all have."""
    if link is None:
        return True
    link.say_done()
    return link.over
