"""Runs the application under gunicorn: worker processes, one by default, with a thread for each connection.

What ends a process, and with which exit code, is decided here.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from semseg.errors import ArtifactError, SemsegError
from semseg.inference.load import LoadedModel, load_predictor
from semseg.reporting.wrapping import say
from semseg.serving.connections import ENDING, PatientWorker, client_left
from semseg.serving.limits import FILES_PER_CLIENT, cores_of_a_worker
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.prediction_queue import PredictionQueue, QueueListener
from semseg.serving.settings import Settings
from semseg.serving.shared_counts import shared_counts

logger = logging.getLogger(__name__)

LOAD_FAILED = 3
"""The exit code of a worker that makes gunicorn end with the same code instead of starting another worker."""

ENGINE_FAILED = 1
"""The exit code of a worker whose engine is broken or stuck; gunicorn starts another worker."""

_PAUSE = 1.0
"""The least seconds between the end of a worker that was never ready and the start of the next, which may fail too."""


class WorkerPolicy(QueueListener):
    """Decides when a worker ends: it takes requests once its model is loaded, and ends if it cannot go on."""

    def __init__(self, on_loaded: Callable[[LoadedModel], object], exit_process: Callable[[int], object]) -> None:
        """exit_process: ends the worker with an exit code, LOAD_FAILED or ENGINE_FAILED."""
        self._on_loaded = on_loaded
        self._exit_process = exit_process

    def loaded(self, model: LoadedModel) -> None:
        """Calls on_loaded."""
        self._on_loaded(model)

    def load_failed(self, error: BaseException) -> None:
        """Prints the reason in one line on stderr, logs the traceback of unexpected errors, ends with LOAD_FAILED."""
        if not isinstance(error, SemsegError):
            logger.error("A bug, or a broken machine:", exc_info=error)
        reason = " ".join((str(error) or repr(error)).split())
        say(f"The model cannot be loaded: {reason}")
        self._exit_process(LOAD_FAILED)

    def keeps_failing(self, count: int, error: Exception) -> None:
        """Logs the error and ends with ENGINE_FAILED."""
        logger.critical(
            "The last %d predictions failed: this process ends, and another takes over.", count, exc_info=error
        )
        self._exit_process(ENGINE_FAILED)

    def stuck(self) -> None:
        """Logs this and ends with ENGINE_FAILED."""
        logger.critical("The engine is stuck in a prediction: this process ends, and another takes over.")
        self._exit_process(ENGINE_FAILED)


class Processes(BaseApplication):  # type: ignore[misc]
    """The server; run() makes this process gunicorn's master."""

    def __init__(self, settings: Settings) -> None:
        """Raises UserError when there is no space for the shared counts of several workers."""
        self._settings = settings
        self._was_ready = mmap.mmap(-1, 1)  # one byte shared by master and workers: was any worker ever ready?
        self._ready = mmap.mmap(-1, mmap.PAGESIZE)  # shared too: a byte for each worker, at its slot
        self._slot = 0  # in a worker: its own
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
        Master(self).run()

    def load(self) -> Flask:
        """Called in the worker, because neither the queue's thread nor a GPU context would survive the fork."""
        from semseg.serving.app import create_app  # here: prometheus_client reads its folder's name on import
        from semseg.serving.metrics import count_in_slot

        if self._counts:
            count_in_slot(self._slot)
        settings = self._settings
        cores = cores_of_a_worker(settings)
        os.environ["OMP_NUM_THREADS"] = str(cores)  # for MXNet and PyTorch, which are imported later, if at all
        budget = MemoryBudget()

        def loaded(model: LoadedModel) -> None:
            budget.lower_to(model.memory)
            self._was_ready[0] = self._ready[self._slot] = 1

        queue = PredictionQueue(partial(_load, settings, cores), settings.queue, WorkerPolicy(loaded, self._end_worker))
        return create_app(queue, settings, budget, client_left)

    @property
    def at_terminal(self) -> bool:
        """Whether a person started the server at a terminal."""
        return self._settings.at_terminal

    def may_start(self) -> bool:
        """Whether the pause before the next worker is over."""
        return time.monotonic() >= self._start_at

    def exit_code(self, code: int) -> int:
        """The exit code of a worker that fails: LOAD_FAILED, which ends the server, only if no worker was ever ready.

        A model that was loaded once is valid: if it cannot be loaded again, the machine lacks something for now.
        """
        return ENGINE_FAILED if code == LOAD_FAILED and self._was_ready[0] else code

    def fail(self, error: OSError) -> None:
        """Called in the master when no worker can be started: ends it if none was ever ready, else waits a little."""
        if not self._was_ready[0]:
            raise HaltServer(f"No worker can be started: {error}.", LOAD_FAILED)
        self._start_at = time.monotonic() + _PAUSE

    def _end_worker(self, code: int) -> None:
        os._exit(self.exit_code(code))

    def _may_accept(self) -> bool:
        """Whether this worker should take connections: not while it loads and another is ready."""
        return self._ready[self._slot] == 1 or self._ready.find(b"\1") < 0

    def _before_worker(self, master: Arbiter, worker: PatientWorker) -> None:
        """Called in the master before the fork: gives the worker the first free slot."""
        taken = {other.slot for other in master.WORKERS.values()}
        self._slot = worker.slot = next(slot for slot in count() if slot not in taken)
        if self._counts:
            self._counts.prepare(worker.slot)

    def _set_up(self, worker: PatientWorker) -> None:
        worker.seconds, worker.may_accept = self._settings.timeout, self._may_accept

    def _after_worker(self, master: Arbiter, worker: PatientWorker) -> None:
        """Called in the master at a worker's end. If the first dies while it loads, the server ends: the next would
        die too.

        The master has no listeners once it is ending itself.
        """
        if self._counts:
            with suppress(OSError):  # then some gauges are wrong until the next worker starts
                self._counts.forget(worker.slot)
        if not self._ready[worker.slot]:
            self._start_at = time.monotonic() + _PAUSE
        self._ready[worker.slot] = 0
        if master.LISTENERS and not self._was_ready[0]:
            raise HaltServer("The worker died before the model was loaded.", LOAD_FAILED)

    def _clean_up(self, _master: Arbiter) -> None:
        """Called in the master at its end."""
        if self._counts:
            self._counts.remove()


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master; if it cannot fork or open a file for a worker, it tries again instead of ending."""

    def spawn_worker(self) -> int | None:
        """Called when there are too few workers, every second and when one ends; in the worker it does not return."""
        if not self.app.may_start():
            return None
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # a worker would lose one at first
        try:
            pid: int = super().spawn_worker()
            return pid
        except OSError as error:
            self.log.error("No worker can be started: %s", error)
            self.app.fail(error)
            return None
        except SystemExit as end:
            raise SystemExit(self.app.exit_code(end.code)) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def reap_workers(self) -> None:
        """Called when a worker has ended. How one ends while the server ends, when it has no listeners, is no error."""
        try:
            super().reap_workers()
        except HaltServer:
            if self.LISTENERS:
                raise

    def handle_hup(self) -> None:
        """Called for SIGHUP, at which gunicorn starts new workers: if a terminal is closed, its server ends instead."""
        if self.app.at_terminal:
            raise StopIteration
        super().handle_hup()

    def handle_usr2(self) -> None:
        """Called for SIGUSR2, at which gunicorn would start a second master on the same sockets."""
        self.log.warning("SIGUSR2 is ignored.")


def _load(settings: Settings, cores: int) -> LoadedModel:
    """Loads the model; messages call its folder by the name that the user knows."""
    origin = settings.origin or str(settings.model_dir)
    try:
        model = load_predictor(
            settings.model_dir,
            settings.backend,
            settings.precision,
            settings.max_tile_pixels,
            settings.cache_dir,
            cores=cores,
            processes=settings.workers,
            scale=settings.scale,
        )
    except ArtifactError as error:
        error.message = error.message.replace(str(settings.model_dir), origin)
        raise
    model.predictor.origin = origin
    return model


def _options(settings: Settings) -> dict[str, object]:
    """gunicorn's settings."""
    return {
        "bind": f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}",
        "workers": settings.workers,
        "worker_class": PatientWorker,  # with threads: in the other kinds a prediction blocks /ping
        "threads": settings.max_connections,  # the number of clients that may stall or wait before /ping does
        "worker_connections": FILES_PER_CLIENT * settings.max_connections,  # including idle ones that are kept open
        "graceful_timeout": 25,  # the platform kills 30 seconds after SIGTERM
        "keepalive": 60,  # seconds that a connection may be idle between two requests, as in AWS's own containers
        "loglevel": "warning" if settings.at_terminal else "info",
        "timeout": 300,  # for the worker's own heartbeat, not for requests
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp",  # noqa: S108 empty files
        "control_socket_disable": True,  # it would be a file in the home directory
        "forwarded_allow_ips": "",  # trust no proxy's headers: SCRIPT_NAME, or two schemes, would give 500
    }
