"""Trains a job on several ranks: starts those of this host, watches them, and ends them all when one fails."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing import connection
from pathlib import Path
from typing import Any

from semseg.artifact import model_dir
from semseg.codecs.params import read_params
from semseg.engines.group import Membership
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.training.components import specify
from semseg.training.failures import Failure, cause_of
from semseg.training.finish import complete
from semseg.training.local_ranks import LocalRank, local_ranks
from semseg.training.prepare import Checked
from semseg.training.progress import Progress
from semseg.training.rank import SHOWN, STOPPED, RankTask
from semseg.training.results import open_sinks

COLLECTIVE_SECONDS = 1800.0
"""How long a rank waits for the others in a collective: longer than any of them takes to save. A rank or host that has
failed is noticed much sooner, by the processes of `train`."""

_TICK = 1.0
"""Seconds between two looks at the ranks."""

_SETTLE = 5.0
"""Seconds from the first failure to the choice of the cause among those that follow it."""


def train_in_ranks(checked: Checked, stop: threading.Event, resources: ExitStack, mmap_threshold: int) -> None:
    """Trains a job on its ranks, and then exports and scores the best model in this process.

    When the training was stopped on any rank, `stop` is set. Raises GroupError, which names the rank that failed, and
    Stopped.
    """
    job = checked.job
    scratch = resources.enter_context(tempfile.TemporaryDirectory(prefix="semseg-"))
    listener = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
    address, port = listener.getsockname()
    membership = Membership(0, job.ranks.size, address, port, None, "lo", COLLECTIVE_SECONDS)
    tasks = _tasks(checked, membership, Path(scratch), mmap_threshold)
    with local_ranks(tasks, listener) as ranks:
        watch(ranks, stop)
        progress = _progress_of(ranks, stop)
    _finish(checked, progress, stop, resources, tasks[0].scratch / SHOWN)


def watch(ranks: Sequence[LocalRank], stop: threading.Event) -> None:
    """Returns when all ranks have ended well; once `stop` is set, they are sent SIGTERM. Raises GroupError."""
    failures: dict[LocalRank, Failure] = {}
    deadline = float("inf")
    while not all(rank.has_ended for rank in ranks) and time.monotonic() < deadline:
        connection.wait([one for rank in ranks for one in rank.waited_for], _TICK)
        for rank in ranks:
            if rank not in failures and (failure := rank.poll()):
                failures[rank] = failure
                deadline = min(deadline, time.monotonic() + _SETTLE)
            if stop.is_set():
                rank.terminate()
    for rank in ranks:
        if rank not in failures and (failure := rank.poll()):
            failures[rank] = failure
    if failures:
        raise cause_of(failures.values()).error()


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
