"""gunicorn around the application: one worker process for the device, threads for its requests."""

from __future__ import annotations

import logging
import mmap
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer

from semseg.errors import UserError
from semseg.inference.load import load_predictor
from semseg.serving.app import create_app
from semseg.serving.engine import LOAD_FAILED, Engine
from semseg.serving.settings import Settings


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
    _Server(settings).run()
    return 0


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._was_ready = mmap.mmap(-1, 1)  # one byte that master and worker share
        super().__init__()

    def load_config(self) -> None:
        for name, value in _options(self._settings.port).items():
            self.cfg.set(name, value)
        self.cfg.set("child_exit", self._end_if_never_ready)

    def load(self) -> Flask:
        """Called in the worker: the engines' threads would not survive the fork, nor would a GPU."""
        settings = self._settings
        load = partial(
            load_predictor,
            settings.model_dir,
            settings.backend,
            settings.precision,
            settings.max_tile_pixels,
            settings.cache_dir,
        )
        return create_app(Engine(load, on_ready=self._mark_ready), settings)

    def _mark_ready(self) -> None:
        self._was_ready[0] = 1

    def _end_if_never_ready(self, arbiter: Any, _worker: Any) -> None:
        """Called in the master at a worker's end: one that dies while it loads would die for ever.

        The arbiter has no listeners when it is the one that ends.
        """
        if arbiter.LISTENERS and not self._was_ready[0]:
            raise HaltServer("The worker died before the model was loaded.", LOAD_FAILED)


def _options(port: int) -> dict[str, object]:
    """gunicorn's settings."""
    return {
        "bind": f"0.0.0.0:{port}",
        "workers": 1,
        "worker_class": "gthread",  # the only kind whose /ping is not blocked by a prediction
        "threads": 32,  # so many clients may stall or wait before /ping does
        "graceful_timeout": 25,  # the platform kills 30 seconds after SIGTERM
        "keepalive": 60,  # seconds that a client may leave between two requests, as in AWS's own containers
        "timeout": 300,  # of the worker's own heartbeat, not of requests
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp",  # noqa: S108 always writable
        "control_socket_disable": True,  # it is a file in the home directory
    }
