"""`scripts/demo` as a newcomer runs it: the long training run of the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.cli import main
from semseg.inference.load import load_predictor
from semseg.machine import has_bf16

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the demo left behind, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [ROOT / "scripts/demo", out]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([ROOT / "scripts/demo", "."], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.req("R1", "R2", "R8", "R10", "R49", "R50", "R51")
def test_it_learns_the_shapes(demo: tuple[Path, str]) -> None:
    """From scratch, on the CPU, within three minutes of training on two cores."""
    summary = json.loads((demo[0] / "output/data/metrics.json").read_text())
    assert summary["best"]["mIOU"] > 0.7


@pytest.mark.req("R2", "R11")
def test_it_leaves_image_mask_and_overlay(demo: tuple[Path, str]) -> None:
    out, log = demo
    with Image.open(out / "image.png") as image, Image.open(out / "mask.png") as mask:
        assert image.size == mask.size
        assert mask.mode == "L"
        truth = sorted((out / "input/data/validation_annotation").iterdir())[0]
        with Image.open(truth) as annotation:
            right = np.asarray(mask) == np.asarray(annotation)
        assert right.mean() > 0.8
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.mode == "RGB"
    assert log.rstrip().endswith("overlay.png")
    assert all(str(out / name) in log for name in ("image.png", "mask.png", "overlay.png"))


@pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16")
def test_bf16_and_gluoncv_s_numbers_give_nearly_the_same_masks(demo: tuple[Path, str]) -> None:
    """Of a trained network."""
    assert agreement(demo[0], "bf16") >= 0.99


def test_int8_passes_its_gate_and_gives_nearly_the_same_masks(
    demo: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = demo[0] / "input/data"
    command = ["quantize", demo[0] / "model", "--images", data / "train", "--annotations", data / "train_annotation"]
    assert main(list(map(str, command))) == 0
    said = re.search(r"^kept: mIOU (\S+) in int8, (\S+) in f32, on 32 images$", capsys.readouterr().out, re.MULTILINE)
    assert said
    assert float(said[2]) > 0.7
    assert float(said[2]) - float(said[1]) <= 0.0051  # rounded
    assert agreement(demo[0], "int8") >= 0.985
    sizes = [(demo[0] / "model" / name).stat().st_size for name in ("model_int8.onnx", "model.onnx")]
    assert 0.24 < sizes[0] / sizes[1] < 0.27


def agreement(out: Path, precision: str) -> float:
    """The share of the validation images' pixels that have the label they have in f32."""
    exact, fast = (load_predictor(out / "model", "openvino", kind) for kind in ("f32", precision))
    shares = []
    for path in sorted((out / "input/data/validation").iterdir()):
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
        shares.append((exact.predictor.predict(picture).labels() == fast.predictor.predict(picture).labels()).mean())
    assert len(shares) == 12
    return float(np.mean(shares))
