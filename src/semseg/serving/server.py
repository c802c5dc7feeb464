"""The command `serve`: what its environment says and its machine allows, settled before gunicorn is there."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from semseg.artifact.model_dir import parameter_file
from semseg.errors import UserError, one_line
from semseg.machine import keep_memory_flat
from semseg.reporting.wrapping import say
from semseg.serving.environment import remove_foreign
from semseg.serving.limits import within_limits
from semseg.serving.settings import PAGE, REQUEST_LOG, Settings

logger = logging.getLogger(__name__)

_RELEASE_FROM = 4 << 20
"""Bytes from which a freed block of memory is returned to the system at once. Smaller ones, such as the blocks of an
upsampled image, are worth keeping: returning them costs 6 ms an image [measured, 480 x 480]."""


@dataclass(frozen=True)
class ServeCommand:
    """What the options of the command say; None for what the environment and its defaults say.

    model: the folder of a model. origin: what messages call it if it has a temporary name.
    """

    model: Path | None = None
    origin: str = ""
    host: str | None = None
    port: int | None = None


AS_IN_THE_CONTAINER = ServeCommand()


def serve(environ: MutableMapping[str, str], command: ServeCommand = AS_IN_THE_CONTAINER) -> int:
    """Serve until SIGTERM; this process becomes gunicorn's master.

    environ: os.environ, from which variables meant for other servers are removed. A model that is given is served on
    127.0.0.1 unless there is a host too; raises ArtifactError for a folder without one.

    Ends with SystemExit: 0 after the requests in progress were answered, processes.LOAD_FAILED when the model cannot be
    loaded, also when the system kills the worker for its memory. Returns an exit code only if a variable has a bad
    value or the machine's limits are too low for a server.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    remove_foreign(environ)
    if command.model is not None:
        parameter_file(command.model)
    try:
        settings = within_limits(_with(command, Settings.from_environment(environ)))
        if command.model is not None:
            _require_address(settings.host, settings.port)
        from semseg.serving.processes import Processes  # here: gunicorn reads the environment on import

        processes = Processes(settings)
    except UserError as error:
        say(str(error))
        return error.exit_code
    keep_memory_flat(_RELEASE_FROM, kept=4 * _RELEASE_FROM, arenas=2)
    if settings.page == "on":
        logger.info("Try the model in a browser: http://%s:%d/", _reachable(settings.host), settings.port)
    if settings.at_terminal:
        logger.info("Ctrl-C stops the server.")
    processes.run()
    return 0


def _require_address(host: str, port: int) -> None:
    """Raises UserError if no server can listen there, which gunicorn would try for five seconds, with a line for each.

    In a container it may: the server before this one may be about to end.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn's: earlier connections pass
            listening.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: part of a host's name is longer than 63 characters
        raise UserError(
            f"The server cannot listen on {one_line(host):.100}, port {port}: "
            f"{getattr(error, 'strerror', None) or error}.",
            "Give another --host or --port.",
        ) from error


def _reachable(host: str) -> str:
    """An address of this machine under which a server on `host` can be opened."""
    return "localhost" if host in ("0.0.0.0", "::", "") else host


def _with(command: ServeCommand, settings: Settings) -> Settings:
    host = command.host or ("127.0.0.1" if command.model else settings.host)
    page = "on" if command.model and settings.page == PAGE.default else settings.page
    at_terminal = command.model is not None and sys.stdout.isatty()
    request_log = "short" if at_terminal and settings.request_log == REQUEST_LOG.default else settings.request_log
    model_dir, port = command.model or settings.model_dir, command.port or settings.port
    return replace(
        settings,
        model_dir=model_dir,
        host=host,
        port=port,
        page=page,
        at_terminal=at_terminal,
        origin=command.origin,
        request_log=request_log,
    )
