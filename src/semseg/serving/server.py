"""gunicorn around the application: worker processes, one unless told otherwise, with threads for their requests."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer

from semseg.engines.machine import keep_memory_flat, usable_cores
from semseg.errors import UserError
from semseg.inference.load import load_predictor
from semseg.serving.connections import PatientWorker, client_left
from semseg.serving.engine import LOAD_FAILED, Engine
from semseg.serving.settings import Settings

_LARGE = 4 << 20
"""Bytes of a block that is given back at once. What is smaller, such as the blocks of an upsampled picture, is worth
keeping: given back each time, it costs 6 ms a picture [measured, 480 x 480]."""


def serve(environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM; this process becomes gunicorn's master.

    Ends with SystemExit: 0 after requests under way were answered, engine.LOAD_FAILED when the model cannot be
    loaded, be it that the system kills the worker for its memory. Returns an exit code only when the environment has
    a bad value.
    """
    try:
        settings = Settings.from_environment(environ)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    keep_memory_flat(_LARGE, kept=4 * _LARGE, arenas=2)
    _Server(settings).run()
    return 0


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._was_ready = mmap.mmap(-1, 1)  # one byte that master and workers share
        self._ready = mmap.mmap(-1, mmap.PAGESIZE)  # one for each worker that lives, at its _place
        self._metrics_dir = _metrics_dir() if settings.workers > 1 else None
        super().__init__()

    def load_config(self) -> None:
        for name, value in _options(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("post_worker_init", self._set_up)
        self.cfg.set("child_exit", self._after_worker)
        self.cfg.set("on_exit", self._clean_up)

    def load(self) -> Flask:
        """Called in the worker: the engines' threads would not survive the fork, nor would a GPU."""
        from semseg.serving.app import create_app  # here: prometheus_client looks for its folder when it is imported

        settings = self._settings
        cores = settings.threads or max(1, usable_cores() // settings.workers)
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
        return create_app(Engine(load, settings.queue, on_ready=self._mark_ready), settings, client_left)

    def _mark_ready(self) -> None:
        self._was_ready[0] = self._ready[_place(os.getpid())] = 1

    def _may_accept(self) -> bool:
        """Whether this worker is to take connections: not as long as it loads and another is ready."""
        return self._ready[_place(os.getpid())] == 1 or self._ready.find(b"\1") < 0

    def _set_up(self, worker: PatientWorker) -> None:
        worker.seconds, worker.may_accept = self._settings.timeout, self._may_accept

    def _after_worker(self, arbiter: Any, worker: PatientWorker) -> None:
        """Called in the master at a worker's end: one that dies while it loads would die for ever.

        The arbiter has no listeners when it is the one that ends.
        """
        if self._metrics_dir:
            from prometheus_client import multiprocess

            multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
        self._ready[_place(worker.pid)] = 0
        if arbiter.LISTENERS and not self._was_ready[0]:
            raise HaltServer("The worker died before the model was loaded.", LOAD_FAILED)

    def _clean_up(self, _arbiter: Any) -> None:
        """Called in the master at its end."""
        if self._metrics_dir:
            shutil.rmtree(self._metrics_dir, ignore_errors=True)


def _place(process: int) -> int:
    """Where a process has its byte. Should two workers ever share one, some requests may meet a worker that loads."""
    return process % mmap.PAGESIZE


def _metrics_dir() -> str:
    """A folder in which the processes count together, made known to prometheus_client."""
    folder = tempfile.mkdtemp(prefix="semseg-metrics-", dir=_scratch())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    return folder


def _scratch() -> str:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"  # noqa: S108 always writable


def _options(settings: Settings) -> dict[str, object]:
    """gunicorn's settings."""
    return {
        "bind": f"0.0.0.0:{settings.port}",
        "workers": settings.workers,
        "worker_class": PatientWorker,  # of threads: in the other kinds a prediction holds up /ping
        "threads": settings.max_connections,  # so many clients may stall or wait before /ping does
        "worker_connections": 2 * settings.max_connections,  # with those that only keep a connection open
        "graceful_timeout": 25,  # the platform kills 30 seconds after SIGTERM
        "keepalive": 60,  # seconds that a client may leave between two requests, as in AWS's own containers
        "timeout": 300,  # of the worker's own heartbeat, not of requests
        "worker_tmp_dir": _scratch(),
        "control_socket_disable": True,  # it is a file in the home directory
    }
