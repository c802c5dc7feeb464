from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from semseg.machine import has_bf16

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.needs("mxnet"), pytest.mark.needs("torch")]


def bench(*arguments: str) -> tuple[list[str], dict[str, list[float]]]:
    """Runs the bench in a tiny form, without CamVid; returns its lines, and the numbers of the rows of its table.

    Its exit status is that of its bars.
    """
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests/support'}", "SEMSEG_CAMVID": "/nowhere"}
    command: list[str | Path] = [sys.executable, ROOT / "tests/bench/engines.py", "--tiny", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=900, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == any(line.endswith(", short") for line in lines), done.stderr
    rows = [re.fullmatch(r"((?:MXNet|PyTorch) [^:]+?)((?: +\d+\.\d+)+)", line) for line in lines]
    return lines, {row[1]: [float(number) for number in row[2].split()] for row in rows if row}


def test_engines_begin_with_one_loss_and_bars_compare_their_last() -> None:
    lines, rows = bench()
    assert list(rows) == ["MXNet f32", "PyTorch f32", "PyTorch bf16", "MXNet f32, start off by 1e-7"]
    (mxnet, last), (torch, torch_last), (bf16, bf16_last), (control, control_last) = rows.values()
    assert [torch, control] == pytest.approx([mxnet, mxnet], rel=1e-3)
    assert bf16 == pytest.approx(torch, rel=0.05)
    assert len({mxnet, last, torch_last, bf16_last, control_last}) == 5
    for line, name, off in zip(
        lines[-2:], ("engines_torch", "engines_bf16"), (torch_last / last - 1, bf16_last / torch_last - 1), strict=True
    ):
        found = re.fullmatch(rf"{name}: (\d\.\d{{4}}), bar 0\.0200, (ok|short)", line)
        assert found, line
        assert float(found[1]) == pytest.approx(abs(off), abs=2e-4)
        assert found[2] == ("ok" if float(found[1]) <= 0.02 else "short")


def test_jobs_of_each_engine_have_an_accuracy() -> None:
    lines, rows = bench("--miou")
    halves = has_bf16()
    assert list(rows) == ["MXNet f32", "PyTorch f32", *(["PyTorch bf16"] if halves else [])]
    for *points, mean, _ in rows.values():
        assert len(points) == 2
        assert all(0 < value < 100 for value in points)
        assert mean == pytest.approx(sum(points) / 2, abs=0.01)
    bars = ["torch", *(["bf16"] if halves else [])]
    for line, name in zip(lines[-len(bars) :], bars, strict=True):
        assert re.fullmatch(rf"engines_miou_{name}: \d+\.\d\d, bar 1\.00, (ok|short)", line), line
