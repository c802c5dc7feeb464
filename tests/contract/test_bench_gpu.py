from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_stages import Report, Stage, run

ROOT = Path(__file__).parents[2]

STAGES = """
import os, threading
from bench_stages import SkippedError

def good(plan):
    yield {"what": "first", "value": plan + 0.5}
    yield {"what": "second", "value": 2}

def bad(plan):
    yield {"what": "first"}
    raise ValueError("one line\\nand another")

def not_here(plan):
    raise SkippedError("no CUDA")
    yield

def crashes(plan):
    yield {"what": "first"}
    os.abort()

def hangs(plan):
    yield {"what": "first"}
    threading.Event().wait()
"""


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A report of no stage yet; stages are found in the module `fake_stages`."""
    (tmp_path / "fake_stages.py").write_text(STAGES)
    monkeypatch.syspath_prepend(tmp_path)
    return Report(tmp_path / "report.json", {"engine": "none"})


def one(name: str, report: Report, seconds: float = math.inf) -> dict[str, Any]:
    """Runs a stage; returns its entry in the file."""
    deadline = time.monotonic() + 600
    status = run(Stage(name, f"fake_stages:{name}", seconds), 1, report, deadline)
    content = json.loads(report.path.read_text())
    assert content["engine"] == "none"
    entry: dict[str, Any] = content["stages"][-1]
    assert entry["stage"] == name
    assert entry["status"] == status
    return entry


def test_the_rows_of_a_stage_are_in_the_file_and_on_the_screen(
    report: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = one("good", report)
    assert entry["status"] == "ok"
    assert entry["rows"] == [{"what": "first", "value": 1.5}, {"what": "second", "value": 2}]
    assert "first  " in (shown := capfd.readouterr().out)
    assert "value 1.5" in shown


def test_a_run_that_is_cut_off_has_left_its_rows(report: Report) -> None:
    report.add(report.begin("good"), {"what": "first"})
    (entry,) = json.loads(report.path.read_text())["stages"]
    assert entry == {"stage": "good", "status": "cut off", "seconds": 0.0, "rows": [{"what": "first"}]}


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("bad", "failed", "ValueError: one line"),
        ("not_here", "skipped", "no CUDA"),
        ("crashes", "failed", "its process ended with exit status -6"),
    ],
)
def test_a_stage_that_does_not_end_well_keeps_its_rows_and_the_next_one_runs(
    report: Report, name: str, status: str, reason: str
) -> None:
    entry = one(name, report)
    assert (entry["status"], entry["reason"]) == (status, reason)
    assert entry["rows"] == ([] if name == "not_here" else [{"what": "first"}])
    assert one("good", report)["status"] == "ok"


def test_a_stage_that_takes_too_long_is_ended(report: Report) -> None:
    """It may not even have begun when its time is over."""
    entry = one("hangs", report, seconds=0.01)
    assert entry["status"] == "out of time"
    assert one("good", report)["status"] == "ok"


def bench(*arguments: str | Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    """Runs the bench."""
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests/support'}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [python, ROOT / "tests/bench/gpu.py", *arguments], env=environ, capture_output=True, text=True, check=False
    )


ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"without {name}"))
    for name in ("torch", "mxnet")
]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_each_stage_runs_in_a_tiny_form_on_the_cpu(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = bench("--tiny", "--engine", engine, "--json", path)
    assert result.returncode == 0, result.stderr
    stages = {entry["stage"]: entry for entry in json.loads(path.read_text())["stages"]}
    skipped = {name: entry["reason"] for name, entry in stages.items() if entry["status"] == "skipped"}
    assert skipped.pop("torchvision", "torchvision is not installed") == "torchvision is not installed"
    assert skipped == ({"graphs": "no CUDA", "compile": "no CUDA"} if engine == "torch" else {})
    assert {entry["status"] for entry in stages.values()} <= {"ok", "skipped"}
    rows = {name: entry["rows"] for name, entry in stages.items()}
    assert all(row["ok"] for row in rows["parity"])
    assert any(row.get("images_s", 0) > 0 and row["tflops"] > 0 for row in rows["training"])
    assert all(row["answers_repeat"] for row in rows["serving"] if "answers_repeat" in row)
    assert all(row["gradient_error"] < 1e-3 for row in rows.get("ddp", []))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The bench as a module, which writes to a folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "tests/bench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    return import_module("gpu")


def test_an_engine_that_is_not_installed_is_named_with_a_way_to_get_it(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu.main() == 2
    assert "scripts/setup torch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statuses", "ok", "expected"),
    [
        ({}, True, 0),
        ({}, False, 1),
        ({"parity": "failed"}, True, 1),
        ({"parity": "out of time"}, True, 1),
        ({"training": "failed", "compile": "out of time"}, True, 0),
        ({"device": "failed"}, True, 2),
    ],
)
def test_the_exit_status_is_that_of_parity(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, str], ok: bool, expected: int
) -> None:
    ran = []

    def run(stage: Stage, _: Any, report: Report, __: float) -> str:
        entry, status = report.begin(stage.name), statuses.get(stage.name, "ok")
        report.add(entry, {"what": "a row", "ok": ok})
        report.end(entry, status, "", 0.0)
        ran.append(stage.name)
        return status

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "installed")
    monkeypatch.setattr(gpu, "run", run)
    assert gpu.main() == expected
    assert ran == (["device"] if expected == 2 else ["device", *(stage.name for stage in gpu.STAGES)])
    assert json.loads(Path("gpu-bench-torch.json").read_text())["engine"] == "torch"


def test_what_is_no_number_is_no_parity(gpu: Any) -> None:
    parity = import_module("_gpu_parity")
    expected = np.array([1.0, -2.0])
    assert parity.relative(expected + 1e-8, expected) == 0
    assert parity.relative(expected + 0.1, expected) == pytest.approx(0.05, rel=1e-5)
    error = parity.relative(np.array([1.0, np.nan]), expected)
    assert not parity.row("logits", error, 1e-4)["ok"]
