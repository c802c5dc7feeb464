"""Variables meant for another server, a parent process's perhaps, that would bend this one."""

from __future__ import annotations

from collections.abc import MutableMapping

FOREIGN = (
    "SCRIPT_NAME",  # gunicorn: a path that every request has to begin with, or gets 500
    "GUNICORN_PID",  # gunicorn: the process that this one succeeds, whose sockets it takes over
    "LISTEN_PID",  # gunicorn: the process that has sockets of systemd's; no number ends the start
    "LISTEN_FDS",  # gunicorn: how many, to be used instead of our port; no number ends the start
    "WEB_CONCURRENCY",  # gunicorn: its number of workers; no number ends the start, though ours overrules it
    "FORWARDED_ALLOW_IPS",  # gunicorn: whose headers it believes; no address ends the start
    "PROMETHEUS_MULTIPROC_DIR",  # prometheus_client: a folder to count in; one that is not there ends the start
    "prometheus_multiproc_dir",  # the same, of old
    "FLASK_DEBUG",  # Flask: lets errors through to gunicorn
)
"""Read by gunicorn, Flask and prometheus_client, some when they are imported; nobody means it for this server."""


def forget_foreign(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of FOREIGN from an environment; call it before gunicorn is imported."""
    for name in FOREIGN:
        environ.pop(name, None)
