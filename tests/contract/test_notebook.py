"""The notebook in scripts/examples runs from its first cell to its last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[2] / "scripts/examples/quickstart.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_clean_and_its_cells_compile() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert all(len(line.rstrip("\n")) <= 120 for line in cell["source"])
    for number, cell in enumerate(code_cells()):
        compile(cell, f"cell {number}", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """In the interpreter of the tests, with the engine that is installed."""
    program = tmp_path / "program.py"
    program.write_text("\n".join(code_cells()))
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=600, errors="replace"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert "#quality_metric. host: algo-1, epoch: 2, validation mIOU:" in done.stdout
    assert "(96, 128) uint8" in lines
    assert "(4, 96, 128) float32" in lines
    assert [line.split()[0] for line in lines[-4:]] == ["background", "disc", "square", "triangle"]
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (128, 96)
