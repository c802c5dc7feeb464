from __future__ import annotations

import re
from pathlib import Path

import flask
import gunicorn
import prometheus_client
import werkzeug

from semseg.serving.environment import FOREIGN, remove_foreign

READ = re.compile(r"""os\.environ(?:\.get\(|\.pop\(|\[)\s*['"](\w+)['"]|['"](\w+)['"] (?:not )?in os\.environ""")

HARMLESS = {
    "SERVER_SOFTWARE": "which gunicorn sets itself",
    "GUNICORN_FD": "read only with GUNICORN_PID",
    "GUNICORN_DIRTY_SOCKET": "of a kind of workers that is not used",
    "NOTIFY_SOCKET": "notifies systemd of the start, as intended",
    "PORT": "a default that the server's own setting overrules",
    "SENDFILE": "on how files are sent; none is",
    "XDG_RUNTIME_DIR": "for a control socket that is not opened",
    "PWD": "believed if it is the working directory",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "an option of /metrics",
    "PROMETHEUS_LEGACY_NAME_VALIDATION": "an option of /metrics",
    "FLASK_SKIP_DOTENV": "for the command flask",
    "YOURAPPLICATION_SETTINGS": "in an example",
    "FLASK_RUN_FROM_CLI": "for the command flask",
    "PYTHONSTARTUP": "for the command flask",
    "WERKZEUG_DEBUG_PIN": "for werkzeug's own server",
    "WERKZEUG_RUN_MAIN": "for werkzeug's own server",
    "WERKZEUG_SERVER_FD": "for werkzeug's own server",
}


def test_every_variable_that_the_libraries_read_is_forgotten_or_known_to_be_harmless() -> None:
    read = set()
    for package in (flask, gunicorn, prometheus_client, werkzeug):
        for file in Path(str(package.__file__)).parent.rglob("*.py"):
            read |= {one or other for one, other in READ.findall(file.read_text())}
    assert set(FOREIGN) <= read
    assert read - set(FOREIGN) <= set(HARMLESS)


def test_foreign_variables_are_forgotten_and_others_stay() -> None:
    environ = dict.fromkeys((*FOREIGN, "SEMSEG_QUEUE", "PATH"), "a")
    remove_foreign(environ)
    assert set(environ) == {"SEMSEG_QUEUE", "PATH"}
    remove_foreign(environ)
