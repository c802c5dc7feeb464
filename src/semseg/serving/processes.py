"""gunicorn around the application: worker processes, one unless set otherwise, with threads for their requests.

What ends a process, and with which exit code, is decided here.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from semseg.errors import SemsegError
from semseg.inference.load import LoadedModel, load_predictor
from semseg.serving.connections import PatientWorker, client_left
from semseg.serving.limits import FILES_A_CLIENT, cores_of_a_worker
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.prediction_queue import PredictionQueue, QueueListener
from semseg.serving.settings import Settings
from semseg.serving.shared_counts import shared_counts

logger = logging.getLogger(__name__)

LOAD_FAILED = 3
"""The exit code of a worker that makes gunicorn end, with the same code, instead of starting another."""

FAULTY = 1
"""The exit code of a worker whose engine is broken or stuck: gunicorn starts another."""

_PAUSE = 1.0
"""Seconds at least from the end of a worker that was never ready to the next one, which may lack the same."""


class WorkerPolicy(QueueListener):
    """What a worker does about its model: it takes requests once the model is loaded, and ends if it cannot go on."""

    def __init__(self, on_loaded: Callable[[LoadedModel], object], exit_process: Callable[[int], object]) -> None:
        """exit_process: ends the worker with an exit code, LOAD_FAILED or FAULTY."""
        self._on_loaded = on_loaded
        self._exit_process = exit_process

    def loaded(self, model: LoadedModel) -> None:
        """Calls on_loaded."""
        self._on_loaded(model)

    def load_failed(self, error: BaseException) -> None:
        """Says why in one line on stderr, logs the traceback of what no user can mend, and ends with LOAD_FAILED."""
        if not isinstance(error, SemsegError):
            logger.error("A defect, or a broken machine:", exc_info=error)
        reason = " ".join((str(error) or repr(error)).split())
        print(f"The model cannot be loaded: {reason}", file=sys.stderr, flush=True)
        self._exit_process(LOAD_FAILED)

    def only_failures(self, count: int, error: Exception) -> None:
        """Logs it and ends with FAULTY."""
        logger.critical(
            "The last %d predictions failed: this process ends, and another takes over.", count, exc_info=error
        )
        self._exit_process(FAULTY)

    def stuck(self) -> None:
        """Logs it and ends with FAULTY."""
        logger.critical("The engine is stuck in a prediction: this process ends, and another takes over.")
        self._exit_process(FAULTY)


class Processes(BaseApplication):  # type: ignore[misc]
    """The server: this process is the master, from run() on."""

    def __init__(self, settings: Settings) -> None:
        """Raises UserError when several workers find no room to count together."""
        self._settings = settings
        self._was_ready = mmap.mmap(-1, 1)  # one byte that master and workers share
        self._ready = mmap.mmap(-1, mmap.PAGESIZE)  # one for each worker, at its place
        self._place = 0  # in a worker: its own
        self._start_at = 0.0
        self._counts = shared_counts(settings.workers) if settings.workers > 1 else None
        if self._counts:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._counts.path)
        super().__init__()

    def load_config(self) -> None:
        """Called at the start."""
        for name, value in _options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("pre_fork", self._before_worker)
        self.cfg.set("post_worker_init", self._set_up)
        self.cfg.set("child_exit", self._after_worker)
        self.cfg.set("on_exit", self._clean_up)

    def run(self) -> None:
        """Ends with SystemExit."""
        _Master(self).run()

    def load(self) -> Flask:
        """Called in the worker: the queue's thread would not survive the fork, nor would a GPU."""
        from semseg.serving.app import create_app  # here: prometheus_client looks for its folder when it is imported
        from semseg.serving.metrics import count_at

        if self._counts:
            count_at(self._place)
        settings = self._settings
        cores = cores_of_a_worker(settings)
        os.environ["OMP_NUM_THREADS"] = str(cores)  # for MXNet, which is imported later, if at all
        load = partial(
            load_predictor,
            settings.model_dir,
            settings.backend,
            settings.precision,
            settings.max_tile_pixels,
            settings.cache_dir,
            cores=cores,
            processes=settings.workers,
        )
        budget = MemoryBudget()

        def loaded(model: LoadedModel) -> None:
            budget.lower_to(model.memory)
            self._was_ready[0] = self._ready[self._place] = 1

        queue = PredictionQueue(load, settings.queue, WorkerPolicy(loaded, self._end_worker))
        return create_app(queue, settings, budget, client_left)

    def may_start(self) -> bool:
        """Whether it is time for another worker."""
        return time.monotonic() >= self._start_at

    def exit_code(self, code: int) -> int:
        """What a worker that fails with a code ends with: LOAD_FAILED, which ends the server, at the first load alone.

        A model that was loaded once is sound: if it cannot be loaded again, the machine lacks something for now.
        """
        return FAULTY if code == LOAD_FAILED and self._was_ready[0] else code

    def fail(self, error: OSError) -> None:
        """Called in the master when no worker can be started: it ends if none ever was, or else waits a little."""
        if not self._was_ready[0]:
            raise HaltServer(f"No worker can be started: {error}.", LOAD_FAILED)
        self._start_at = time.monotonic() + _PAUSE

    def _end_worker(self, code: int) -> None:
        os._exit(self.exit_code(code))

    def _may_accept(self) -> bool:
        """Whether this worker is to take connections: not as long as it loads and another is ready."""
        return self._ready[self._place] == 1 or self._ready.find(b"\1") < 0

    def _before_worker(self, master: Arbiter, worker: PatientWorker) -> None:
        """Called in the master before the fork: the worker gets the first place that no other has."""
        taken = {other.place for other in master.WORKERS.values()}
        self._place = worker.place = next(place for place in count() if place not in taken)
        if self._counts:
            self._counts.prepare(worker.place)

    def _set_up(self, worker: PatientWorker) -> None:
        worker.seconds, worker.may_accept = self._settings.timeout, self._may_accept

    def _after_worker(self, master: Arbiter, worker: PatientWorker) -> None:
        """Called in the master at a worker's end: one that dies while it loads would die for ever.

        The master has no listeners when it is the one that ends.
        """
        if self._counts:
            with suppress(OSError):  # of numbers that are wrong until the next worker starts
                self._counts.forget(worker.place)
        if not self._ready[worker.place]:
            self._start_at = time.monotonic() + _PAUSE
        self._ready[worker.place] = 0
        if master.LISTENERS and not self._was_ready[0]:
            raise HaltServer("The worker died before the model was loaded.", LOAD_FAILED)

    def _clean_up(self, _master: Arbiter) -> None:
        """Called in the master at its end."""
        if self._counts:
            self._counts.remove()


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master; without a process or file for a worker it does not end, but tries again."""

    def spawn_worker(self) -> int | None:
        """Called when there are too few workers, again every second, or when another ends.

        In the worker it does not return.
        """
        if not self.app.may_start():
            return None
        try:
            pid: int = super().spawn_worker()
            return pid
        except OSError as error:
            self.log.error("No worker can be started: %s", error)
            self.app.fail(error)
            return None
        except SystemExit as end:
            raise SystemExit(self.app.exit_code(end.code)) from None

    def handle_usr2(self) -> None:
        """Called for SIGUSR2. Gunicorn would start a successor, which finds our sockets in a variable."""
        self.log.warning("SIGUSR2 is ignored.")


def _options(settings: Settings) -> dict[str, object]:
    """gunicorn's settings."""
    return {
        "bind": f"0.0.0.0:{settings.port}",
        "workers": settings.workers,
        "worker_class": PatientWorker,  # of threads: in the other kinds a prediction holds up /ping
        "threads": settings.max_connections,  # so many clients may stall or wait before /ping does
        "worker_connections": FILES_A_CLIENT * settings.max_connections,  # with those that only keep a connection open
        "graceful_timeout": 25,  # the platform kills 30 seconds after SIGTERM
        "keepalive": 60,  # seconds that a client may leave between two requests, as in AWS's own containers
        "timeout": 300,  # of the worker's own heartbeat, not of requests
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp",  # noqa: S108 files of no size
        "control_socket_disable": True,  # it is a file in the home directory
        "forwarded_allow_ips": "",  # nobody is a proxy whose headers count: SCRIPT_NAME, or two schemes, would give 500
    }
