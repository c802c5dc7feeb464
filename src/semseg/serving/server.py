"""The command `serve`: what its environment says and its machine allows, settled before gunicorn is there."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping

from semseg.errors import UserError
from semseg.machine import keep_memory_flat
from semseg.serving.environment import remove_foreign
from semseg.serving.limits import within_limits
from semseg.serving.settings import Settings

_RELEASE_FROM = 4 << 20
"""Bytes from which a freed block of memory is returned to the system at once. Smaller ones, such as the blocks of an
upsampled image, are worth keeping: returning them costs 6 ms an image [measured, 480 x 480]."""


def serve(environ: MutableMapping[str, str]) -> int:
    """Serve until SIGTERM; this process becomes gunicorn's master.

    environ: os.environ, from which variables meant for other servers are removed. Ends with SystemExit: 0 after the
    requests in progress were answered, processes.LOAD_FAILED when the model cannot be loaded, also when the system
    kills the worker for its memory. Returns an exit code only if a variable has a bad value or the machine's limits are
    too low for a server.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    remove_foreign(environ)
    try:
        settings = within_limits(Settings.from_environment(environ))
        from semseg.serving.processes import Processes  # here: gunicorn reads the environment on import

        processes = Processes(settings)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    keep_memory_flat(_RELEASE_FROM, kept=4 * _RELEASE_FROM, arenas=2)
    processes.run()
    return 0
