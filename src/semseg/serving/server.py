"""The command `serve`: what its environment says and its machine allows, settled before gunicorn is there."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping

from semseg.errors import UserError
from semseg.machine import keep_memory_flat
from semseg.serving.environment import forget_foreign
from semseg.serving.limits import within_limits
from semseg.serving.settings import Settings

_LARGE = 4 << 20
"""Bytes of a block that is given back at once. What is smaller, such as the blocks of an upsampled image, is worth
keeping: given back each time, it costs 6 ms an image [measured, 480 x 480]."""


def serve(environ: MutableMapping[str, str]) -> int:
    """Serve until SIGTERM; this process becomes gunicorn's master.

    environ: os.environ, which loses what is meant for other servers. Ends with SystemExit: 0 after requests under way
    were answered, processes.LOAD_FAILED when the model cannot be loaded, be it that the system kills the worker for its
    memory. Returns an exit code only when the environment has a bad value, or the machine has too little for a server.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    forget_foreign(environ)
    try:
        settings = within_limits(Settings.from_environment(environ))
        from semseg.serving.processes import Processes  # here: gunicorn reads the environment when it is imported

        processes = Processes(settings)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    keep_memory_flat(_LARGE, kept=4 * _LARGE, arenas=2)
    processes.run()
    return 0
