"""Runs the stages of a benchmark, each in a process of its own with a limit of time, and reports what they find."""

from __future__ import annotations

import json
import multiprocessing
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from semseg.files import replacing

Row = dict[str, Any]


class SkippedError(Exception):
    """A stage that cannot run here; its text says why."""


@dataclass(frozen=True)
class Stage:
    """A part of a benchmark.

    rows: the `module:function` that yields its rows, dicts for JSON of which `what` is the name; seconds: its limit.
    """

    name: str
    rows: str
    seconds: float


class Report:
    """What was found so far, printed, and written to a file of JSON with each row, so that no interruption loses it."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """head: what is written before the stages."""
        self.path = path
        self.stages: list[dict[str, Any]] = []
        self._head = head

    def begin(self, name: str) -> dict[str, Any]:
        """Add a stage, and return its entry."""
        entry: dict[str, Any] = {"stage": name, "status": "cut off", "seconds": 0.0, "rows": []}
        self.stages.append(entry)
        print(name, flush=True)
        self._write()
        return entry

    def add(self, entry: dict[str, Any], row: Row) -> None:
        """Add a row to a stage's entry."""
        entry["rows"].append(row)
        cells = [f"{key} {_text(value)}" for key, value in row.items() if key != "what"]
        print(f"  {row['what']:44} {', '.join(cells)}", flush=True)
        self._write()

    def end(self, entry: dict[str, Any], status: str, reason: str, seconds: float) -> None:
        """Set how a stage ended."""
        entry |= {"status": status, "seconds": round(seconds, 1)} | ({"reason": reason} if reason else {})
        print(f"  {status}{f': {reason}' if reason else ''}, {seconds:.1f} s", flush=True)
        self._write()

    def _write(self) -> None:
        with replacing(self.path) as partial:
            partial.write_text(json.dumps({**self._head, "stages": self.stages}, indent=1) + "\n")


def run(stage: Stage, plan: Any, report: Report, deadline: float) -> str:
    """Run a stage in a new process until its limit or the deadline; return its status.

    plan: what its function is called with. deadline: in seconds of time.monotonic(). The status is `ok`, `skipped`,
    `failed` or `out of time`; rows that were found before an end count.
    """
    begin = time.monotonic()
    end = min(begin + stage.seconds, deadline)
    entry = report.begin(stage.name)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_rows, args=(there, stage, plan), daemon=True)
    process.start()
    there.close()
    status, reason = "out of time", ""
    try:
        while here.poll(max(0.0, end - time.monotonic())):
            kind, value = here.recv()
            if kind != "row":
                status, reason = kind, value
                break
            report.add(entry, value)
    except EOFError:
        process.join()
        status, reason = "failed", f"its process ended with exit status {process.exitcode}"
    finally:
        process.kill()
        process.join(10)  # one that is stuck in a driver does not end
    report.end(entry, status, reason, time.monotonic() - begin)
    return status


def _send_rows(connection: Connection, stage: Stage, plan: Any) -> None:
    """Send the rows of a stage, and how it ended, from its process."""
    module, _, name = stage.rows.partition(":")
    try:
        for row in getattr(import_module(module), name)(plan):
            connection.send(("row", row))
        connection.send(("ok", ""))
    except SkippedError as error:
        connection.send(("skipped", str(error)))
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {_first_line(error):.300}"))


def _first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
