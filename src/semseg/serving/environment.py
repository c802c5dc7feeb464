"""Environment variables meant for another server, such as a parent process, that would change or break this one."""

from __future__ import annotations

from collections.abc import MutableMapping

FOREIGN = (
    "SCRIPT_NAME",  # gunicorn: a prefix that every path must have; without it a request gets 500
    "GUNICORN_PID",  # gunicorn: the master whose sockets this one takes over
    "LISTEN_PID",  # gunicorn: the process that gets systemd's sockets; the start fails if it is not a number
    "LISTEN_FDS",  # gunicorn: their number, used instead of this server's port; fails if it is not a number
    "WEB_CONCURRENCY",  # gunicorn: the number of workers; though overruled here, fails if it is not a number
    "FORWARDED_ALLOW_IPS",  # gunicorn: the proxies to trust; fails if it is not an address
    "PROMETHEUS_MULTIPROC_DIR",  # prometheus_client: a folder for counts; fails if it does not exist
    "prometheus_multiproc_dir",  # its former name
    "FLASK_DEBUG",  # Flask: lets errors through to gunicorn
)
"""Variables that gunicorn, Flask and prometheus_client read, some on import, and that are not meant for this server."""


def remove_foreign(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of FOREIGN from an environment; call it before gunicorn is imported."""
    for name in FOREIGN:
        environ.pop(name, None)
