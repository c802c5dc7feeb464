"""Fits the number of clients to the machine's limits of open files, and of processes and threads."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace

from semseg.errors import UserError
from semseg.machine import free_threads, usable_cores
from semseg.serving.settings import MAX_CONNECTIONS, Settings

logger = logging.getLogger(__name__)

FILES_PER_CLIENT = 2
"""Its connection, and that of another client that is idle but kept open."""

_OWN_FILES = 64
"""Files that a worker may have open without clients; it has 14 [measured], and libraries open some for a moment."""

_OWN_THREADS, _OWN_THREADS_PER_CORE = 16, 2
"""Threads that a worker may have without clients: MXNet takes 7, and 2 per core [measured], OpenVINO fewer."""


def within_limits(settings: Settings) -> Settings:
    """The settings with max_connections lowered, and a warning logged, if the limits allow a worker fewer than set.

    Also increases this process's limit of open files as far as needed and allowed. Raises UserError when the limits
    allow fewer connections than the minimum of SEMSEG_MAX_CONNECTIONS.
    """
    wanted = settings.max_connections
    most, limit = min(
        (wanted, ""),
        (_clients_by_files(wanted), "open files (ulimit -n)"),
        (_clients_by_threads(settings), "processes and threads (of the container, or ulimit -u)"),
    )
    if most < MAX_CONNECTIONS.lowest:
        raise UserError(
            f"The limit of {limit} leaves room for {max(0, most)} clients besides what the server itself needs; at "
            f"least {MAX_CONNECTIONS.lowest} are required.",
            "Raise the limit (docker run --ulimit nofile=4096, --pids-limit 1000), or lower "
            "SAGEMAKER_MODEL_SERVER_WORKERS or OMP_NUM_THREADS.",
        )
    if most < wanted:
        logger.warning("%s is %d instead of %d, because of the limit of %s.", MAX_CONNECTIONS.name, most, wanted, limit)
    return replace(settings, max_connections=most)


def cores_of_a_worker(settings: Settings) -> int:
    """The number of cores that a worker computes on: as set, or else its share of all."""
    return settings.threads or max(1, usable_cores() // settings.workers)


def _clients_by_files(wanted: int) -> int:
    needed = _OWN_FILES + FILES_PER_CLIENT * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        needed = soft
    return (needed - _OWN_FILES) // FILES_PER_CLIENT


def _clients_by_threads(settings: Settings) -> int:
    free = free_threads()
    own = _OWN_THREADS + _OWN_THREADS_PER_CORE * cores_of_a_worker(settings)
    return settings.max_connections if free is None else free // settings.workers - own
