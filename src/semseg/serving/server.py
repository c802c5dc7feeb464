"""gunicorn around the application: one worker process for the device, threads for its requests."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial

from flask import Flask
from gunicorn.app.base import BaseApplication

from semseg.errors import UserError
from semseg.inference.load import load_predictor
from semseg.serving.app import create_app
from semseg.serving.engine import Engine
from semseg.serving.settings import Settings


def serve(environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM; this process becomes gunicorn's master.

    Ends with SystemExit: 0 after requests under way were answered, engine.LOAD_FAILED when the model cannot be
    loaded. Returns an exit code only when the environment has a bad value.
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
        super().__init__()

    def load_config(self) -> None:
        for name, value in _options(self._settings.port).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker: the engines' threads would not survive the fork, nor would a GPU."""
        settings = self._settings
        load = partial(
            load_predictor, settings.model_dir, settings.backend, settings.precision, settings.max_tile_pixels
        )
        return create_app(Engine(load), settings)


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
