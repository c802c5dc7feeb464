"""Trains a job on several ranks: starts those of this host, watches them, and ends them all when one fails."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.artifact import model_dir
from semseg.codecs.params import read_params
from semseg.engines.group import Membership
from semseg.engines.protocols import Learner
from semseg.errors import GroupError, Stopped
from semseg.files import scratch_folder
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.absence import explained
from semseg.training.calls import WATCH_PORT, listening
from semseg.training.components import specify
from semseg.training.failures import failure_of
from semseg.training.finish import complete
from semseg.training.host_link import HostLink
from semseg.training.introduction import hello, with_facts
from semseg.training.job import Job
from semseg.training.local_ranks import LocalRank, local_ranks
from semseg.training.meeting import call, gather
from semseg.training.prepare import Checked
from semseg.training.progress import Progress
from semseg.training.rank import SHOWN, STOPPED, RankTask
from semseg.training.results import open_sinks
from semseg.training.watch import watch

COLLECTIVE_SECONDS = 1800.0
"""How long a rank waits for the others in a collective: longer than any of them takes to save. A rank or host that has
failed is noticed much sooner, by the processes of `train`."""


STORE_PORT = 29500
"""The port of the first host at which the ranks of several hosts find each other."""


def train_in_ranks(checked: Checked, stop: threading.Event, resources: ExitStack, mmap_threshold: int) -> None:
    """Trains a job on its ranks, and then, on the first host, exports and scores the best model in this process.

    When the training was stopped on any rank, `stop` is set. Raises GroupError, which names the rank or host that
    failed, and Stopped.
    """
    job = checked.job
    with explained(job.paths, stop):
        scratch = resources.enter_context(scratch_folder())
    place = _meet(job, stop, resources)
    with _ended_together(place.link, job.hosts.current):
        job = with_facts(job, place.facts)
        checked = dataclasses.replace(checked, job=job)
        tasks = _tasks(checked, place.membership, scratch, mmap_threshold)
        with local_ranks(tasks, place.listener) as ranks:
            watch(ranks, place.link, stop)
            progress = _progress_of(ranks, stop)
    if job.ranks.saves:
        _finish(checked, progress, stop, resources, tasks[0].scratch / SHOWN)


@contextmanager
def _ended_together(link: HostLink | None, host: str) -> Iterator[None]:
    """Closes the link after the block. An error of this host itself, which no rank has reported, goes to the others."""
    try:
        yield
    except GroupError:  # the others know it
        raise
    except Exception as error:
        if link:
            link.fail(failure_of(error, f"The host {host}", "".join(traceback.format_exception(error))))
        raise
    finally:
        if link:
            link.close()


@dataclass(frozen=True)
class _Place:
    """Where the ranks find each other.

    membership: without a rank. listener: of rank 0. link: to the other hosts. facts: what these have said, by name.
    """

    membership: Membership
    listener: socket.socket | None
    link: HostLink | None
    facts: Mapping[str, Any]


def _meet(job: Job, stop: threading.Event, resources: ExitStack) -> _Place:
    """Waits until all hosts have come. Raises GroupError, Stopped and, for a missing interface, UserError."""
    ranks, hosts = job.ranks, job.hosts
    if ranks.hosts == 1:
        listener = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        address, port = listener.getsockname()
        return _Place(Membership(0, ranks.size, address, port, None, "lo", COLLECTIVE_SECONDS), listener, None, {})
    found: socket.socket | None = None
    with explained(job.paths, stop):
        own, seconds = hello(job), 60 * job.settings.rendezvous_minutes
        if ranks.saves:
            found = resources.enter_context(listening(hosts.interface, STORE_PORT))
            meeting = resources.enter_context(listening(hosts.interface, WATCH_PORT))
    LOGGER.info("Waiting for all of the %d hosts of the job, up to %g minutes.", hosts.count, seconds / 60)
    if ranks.saves:
        address, _ = meeting.getsockname()
        peers, facts = gather(meeting, hosts, own, seconds, stop)
    else:
        peer, facts = call(hosts, own, seconds, stop)
        peers, address = [peer], peer.address
    membership = Membership(0, ranks.size, address, STORE_PORT, None, hosts.interface, COLLECTIVE_SECONDS)
    return _Place(membership, found, HostLink(peers, ranks.saves), facts)


def _tasks(checked: Checked, membership: Membership, scratch: Path, mmap_threshold: int) -> list[RankTask]:
    """Returns what the ranks of this host are to do."""
    job, tasks = checked.job, []
    for local in range(job.ranks.local):
        place = dataclasses.replace(membership, rank=job.ranks.first + local)
        own = scratch / str(local)
        own.mkdir()
        tasks.append(
            RankTask(
                local=local,
                parent=os.getpid(),
                gpu=job.trainer.gpus > 0,
                membership=place,
                paths=job.paths,
                folder=job.folder,
                hosts=job.hosts,
                ranks=job.ranks,
                settings=job.settings,
                samples=job.samples,
                pairs=job.pairs,
                weights=checked.weights,
                report=checked.report if place.rank == 0 else None,
                keep_earlier=checked.keep_earlier,
                scratch=own,
                mmap_threshold=mmap_threshold,
                log=_log_file(),
            )
        )
    return tasks


def _log_file() -> Path | None:
    """Returns the file that takes this process's log in place of its stdout; None if there is none."""
    name = getattr(sys.stdout, "name", None)
    return Path(name) if isinstance(name, str) and Path(name).is_file() else None


def _progress_of(ranks: Sequence[LocalRank], stop: threading.Event) -> Progress:
    """Returns the progress of ranks that have ended well. Raises Stopped if they were before they had any."""
    report: tuple[str, Any] = ranks[0].report or (STOPPED, "")
    if report[0] == STOPPED:
        raise Stopped(report[1])
    text, stopped = report[1]
    if stopped:
        stop.set()
    return Progress.from_json(text)


def _finish(checked: Checked, progress: Progress, stop: threading.Event, resources: ExitStack, shown: Path) -> None:
    """Exports and scores the best model, as the training in a single process does."""
    job, settings, weights = checked.job, checked.job.settings, checked.weights
    sinks = open_sinks(job, checked.report, progress, keep_earlier=True, begun=True, shown=shown)
    emit = resources.enter_context(sinks)

    def learner() -> Learner:
        best = job.paths.model / model_dir.BEST
        specification = specify(settings, weights, job.trainer)
        return job.trainer.engine.learner(specification, read_params(best), str(best), job.trainer.device)

    complete(job, learner, emit, stop)
