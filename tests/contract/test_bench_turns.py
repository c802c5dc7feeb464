from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"

SCRIPT = """
import os, sys
from _turns import answer

print("what is printed before counts as no answer")

def second():
    print("nor does this, of a library")
    os.write(1, b"nor this, of one in C")
    return float(sys.argv[1])

def dies():
    sys.exit(3)

answer(lambda: float(os.environ["OMP_NUM_THREADS"]), second, dies)
"""


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of processes that take turns; there is a `script.py` that answers three calls."""
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(BENCH))
    monkeypatch.syspath_prepend(BENCH)
    return import_module("_turns")


def test_processes_answer_calls_in_any_order(turns: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    with turns.taking_turns(script, "0.5") as first, turns.taking_turns(script, "1.5") as other:
        assert [first(1), other(1), first(0), first(1)] == [0.5, 1.5, turns.THREADS, 0.5]


def test_a_process_that_ends_is_an_error_that_names_its_script(turns: Any, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("raise SystemExit(4)")
    with turns.taking_turns(tmp_path / "short.py") as turn:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"short\.py ended with exit status 4"):
                turn(0)
    with (
        turns.taking_turns(tmp_path / "script.py", "1") as turn,
        pytest.raises(RuntimeError, match=r"script\.py ended with exit status 3"),
    ):
        turn(2)
