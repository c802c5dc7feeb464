"""One rank of a training, in a process of its own that `launch` starts and watches."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.engines.choose import Trainer, rank_trainer
from semseg.engines.group import Group, Membership
from semseg.errors import Stopped
from semseg.machine import die_with_parent, keep_memory_flat, see_only_gpu, usable_cores, use_cores
from semseg.reporting.terminal import TerminalLog
from semseg.sagemaker.channels import read_channels
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.job import stop_on_signals
from semseg.sagemaker.log_lines import LOGGER, set_up_logging
from semseg.sagemaker.paths import Paths
from semseg.training.failures import failure_of
from semseg.training.feed import Feed
from semseg.training.finish import save_last
from semseg.training.fit import fit
from semseg.training.job import Job, open_channels, open_checkpoints
from semseg.training.job_folder import JobFolder
from semseg.training.prepare import PATIENCE, Checked, assemble
from semseg.training.ranks import Ranks

ENDED, STOPPED, FAILED = "ended", "stopped", "failed"
"""What a rank reports, once, as JSON [kind, value].

ENDED: its progress, and whether it was stopped; STOPPED: the text of Stopped; FAILED: a failure.
"""

SHOWN = "shown.npz"
"""What the report shows of the best validation, in the scratch folder of rank 0."""

LARGEST_REPORT = 1 << 26
"""Bytes of a report, which holds the scores of all epochs."""

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""The signals that are blocked when a rank starts, until it handles them."""


@dataclass(frozen=True)
class RankTask:
    """All that a rank needs besides the job's files, which its process reads again.

    local: its number on this host, from 0. gpu: whether it trains on the GPU of that number. scratch: a folder of its
    own. mmap_threshold: as for `keep_memory_flat`. log: the file that takes the log in place of stdout. The others are
    of the job that `launch` has checked; see Job and Checked.
    """

    local: int
    gpu: bool
    membership: Membership
    paths: Paths
    folder: JobFolder | None
    hosts: Hosts
    ranks: Ranks
    settings: Hyperparameters
    samples: int
    pairs: int | None
    weights: tuple[float, ...] | None
    report: Report | None
    keep_earlier: bool
    scratch: Path
    mmap_threshold: int
    log: Path | None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"Rank {self.membership.rank} of {self.membership.size} (on {self.hosts.current})"


def main(parent: int, given: Connection, listener: socket.socket | None, reports: Connection, feed: Feed) -> None:
    """Runs the rank in this process, and ends the process.

    parent: the number of the process that has started it. given: delivers its task. listener: of rank 0, see
    Membership.
    """
    try:
        die_with_parent(parent)
    except ProcessLookupError:
        os._exit(1)
    task: RankTask = given.recv()
    _take_part_of_the_machine(task)
    stop = stop_on_signals()
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to `train` too, which passes them on
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    _set_up_log(task.log)
    LOGGER.setLevel(logging.ERROR)  # that process has logged all there is about the data
    code = _run(task, listener, stop, reports, feed)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # libraries may wait for lost ranks when they are unloaded


def _run(task: RankTask, listener: socket.socket | None, stop: threading.Event, reports: Connection, feed: Feed) -> int:
    """Trains, and reports the end; returns the exit code.

    A failure is reported before this rank leaves the group, which makes the others fail.
    """
    resources = ExitStack()
    try:
        report = _train(task, listener, stop, resources, feed)
        resources.close()
        _send(reports, ENDED, report)
        return 0
    except (Exception, Stopped) as error:
        code = _send_end(task, reports, error)
        with suppress(Exception, Stopped):  # what follows from the one that has been reported
            resources.__exit__(type(error), error, error.__traceback__)
        return code


def _send_end(task: RankTask, reports: Connection, error: Exception | Stopped) -> int:
    """Reports what has ended the training; returns the exit code."""
    if isinstance(error, Stopped):
        _send(reports, STOPPED, str(error))
        return 0
    failure = failure_of(error, task.name, "".join(traceback.format_exception(error)))
    _send(reports, FAILED, failure.to_json())
    return failure.exit_code


def _train(
    task: RankTask, listener: socket.socket | None, stop: threading.Event, resources: ExitStack, feed: Feed
) -> tuple[str, bool]:
    """Trains as a member of the group; returns the last progress as JSON, and whether training was stopped."""
    tempfile.tempdir = str(task.scratch)  # which goes with the job, even if this rank is killed
    store = resources.enter_context(ObjectStore(stop=stop.is_set))
    store.patience = PATIENCE
    trainer = rank_trainer(task.settings.engine, task.settings.precision_dtype, task.gpu)
    membership = dataclasses.replace(task.membership, listener=listener.fileno() if listener else None)
    group = trainer.engine.join(membership, trainer.device)
    resources.callback(group.leave)
    with _stopped_together(group):
        job = _reopen(task, trainer, store)
    checkpoint = job.checkpoints.newest() if job.checkpoints else None
    checked = Checked(job, checkpoint, task.keep_earlier, task.report, task.weights)
    if group.rank == 0:
        LOGGER.setLevel(logging.INFO)
    run = assemble(checked, resources, group, task.scratch / SHOWN)
    del checked, checkpoint
    with _stopped_together(group):
        progress = fit(run, stop, feed)
        if group.rank == 0:
            save_last(run, stop)
    return progress.to_json(), stop.is_set()


@contextmanager
def _stopped_together(group: Group) -> Iterator[None]:
    """Raises Stopped on all ranks if the block does so on one of them, for which the others would wait.

    Collective: those that have done what is in the block wait for one that hangs in it, and so notice that.
    """
    stopped: Stopped | None = None
    try:
        yield
    except Stopped as own:
        stopped = own
    if group.any(stopped is not None):
        raise stopped or Stopped


def _reopen(task: RankTask, trainer: Trainer, store: ObjectStore) -> Job:
    """Lists the files again and opens rank 0's checkpoints; reads no image."""
    inputs = open_channels(read_channels(task.paths), task.settings, store, task.scratch)
    checkpoints = open_checkpoints(task.paths, task.settings, inputs, task.folder) if _saves(task) else None
    return Job(
        task.paths,
        task.folder,
        task.hosts,
        task.settings,
        task.samples,
        inputs,
        trainer,
        checkpoints,
        task.ranks,
        task.pairs,
    )


def _saves(task: RankTask) -> bool:
    return task.membership.rank == 0


def _take_part_of_the_machine(task: RankTask) -> None:
    """Leaves the other ranks of this host their GPUs and their part of the cores."""
    if task.gpu:
        see_only_gpu(task.local)
    use_cores(max(1, usable_cores() // task.ranks.local))
    keep_memory_flat(task.mmap_threshold, kept=task.mmap_threshold)


def _set_up_log(file: Path | None) -> None:
    if file:
        sys.stdout = file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    set_up_logging()
    if file:
        LOGGER.addHandler(TerminalLog(sys.stderr))


def _send(reports: Connection, kind: str, value: object) -> None:
    reports.send_bytes(json.dumps([kind, value]).encode())
