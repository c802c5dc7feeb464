from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from semseg.errors import ArtifactError
from semseg.inference.load import LoadedModel
from semseg.serving.processes import ENGINE_FAILED, LOAD_FAILED, WorkerPolicy


class Worker:
    """Records the models that were loaded, and the exit codes of the worker."""

    def __init__(self) -> None:
        self.models: list[LoadedModel] = []
        self.exits: list[int] = []
        self.policy = WorkerPolicy(self.models.append, self.exits.append)


def test_a_loaded_model_is_passed_on(model: LoadedModel) -> None:
    worker = Worker()
    worker.policy.loaded(model)
    assert (worker.models, worker.exits) == ([model], [])


@pytest.mark.parametrize(
    ("error", "line", "log"),
    [
        (ArtifactError("/m holds no model.", "Give one."), "/m holds no model. Give one.", []),
        (RuntimeError("stack\n  of lines"), "stack of lines", ["A bug, or a broken machine:"]),
        (MemoryError(), "MemoryError()", ["A bug, or a broken machine:"]),
    ],
)
def test_a_failed_load_prints_one_line_and_ends_the_process(
    error: Exception, line: str, log: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()
    worker.policy.load_failed(error)
    assert worker.exits == [LOAD_FAILED] == [3]
    assert capsys.readouterr().err == f"The model cannot be loaded: {line}\n"
    assert caplog.messages == log
    assert (repr(error).partition("(")[0] in caplog.text) == bool(log)


def test_failures_alone_are_logged_with_the_latest_and_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    worker.policy.keeps_failing(10, RuntimeError("CUDA error"))
    assert worker.exits == [ENGINE_FAILED] == [1]
    assert caplog.messages == ["The last 10 predictions failed: this process ends, and another takes over."]
    assert "RuntimeError: CUDA error" in caplog.text
    assert caplog.records[0].levelno == logging.CRITICAL


def test_a_stuck_prediction_is_logged_and_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    worker.policy.stuck()
    assert worker.exits == [ENGINE_FAILED]
    assert caplog.messages == ["The engine is stuck in a prediction: this process ends, and another takes over."]


MASTER_WITH_A_WORKER_THAT_FAILED = """
import os
import sys
from types import SimpleNamespace
from gunicorn.errors import HaltServer
from semseg.serving.processes import LOAD_FAILED, Master, Processes
from semseg.serving.settings import Settings

master = Master(Processes(Settings.from_environment({})))
master.LISTENERS = sys.argv[1:]
pid = os.fork() or os._exit(LOAD_FAILED)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
master.WORKERS = {pid: SimpleNamespace()}
try:
    master.reap_workers()
    print("goes on")
except HaltServer as end:
    print("ends with", end.exit_status)
"""


@pytest.mark.parametrize(("listeners", "result"), [(["socket"], "ends with 3"), ([], "goes on")])
def test_a_worker_that_cannot_load_ends_the_server_unless_it_is_ending_already(
    listeners: list[str], result: str
) -> None:
    """In a process of its own, because a master waits for all its children."""
    command = [sys.executable, "-c", MASTER_WITH_A_WORKER_THAT_FAILED, *listeners]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == result
