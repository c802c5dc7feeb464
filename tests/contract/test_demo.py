"""`scripts/demo` as a newcomer runs it: the long training run of the tests."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.inference.load import load_predictor

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


@pytest.mark.req("R1", "R2", "R8", "R10", "R49", "R50", "R51")
def test_it_learns_the_shapes(demo: tuple[Path, str]) -> None:
    """From scratch, on the CPU, within three minutes of training on two cores."""
    summary = json.loads((demo[0] / "output/data/metrics.json").read_text())
    assert summary["best"]["mIOU"] > 0.7


@pytest.mark.req("R2", "R11")
def test_it_leaves_picture_mask_and_overlay(demo: tuple[Path, str]) -> None:
    out, log = demo
    with Image.open(out / "picture.png") as picture, Image.open(out / "mask.png") as mask:
        assert picture.size == mask.size
        assert mask.mode == "L"
        truth = sorted((out / "input/data/validation_annotation").iterdir())[0]
        with Image.open(truth) as annotation:
            right = np.asarray(mask) == np.asarray(annotation)
        assert right.mean() > 0.8
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.mode == "RGB"
    assert log.rstrip().endswith("picture.png")
    assert all(str(out / name) in log for name in ("picture.png", "mask.png", "overlay.png"))


def test_bf16_and_gluoncv_s_numbers_give_nearly_the_same_masks(demo: tuple[Path, str]) -> None:
    """Of a trained network; on a CPU without bf16, OpenVINO emulates it or computes in f32."""
    exact, fast = (load_predictor(demo[0] / "model", "openvino", precision) for precision in ("f32", "bf16"))
    shares = []
    for path in sorted((demo[0] / "input/data/validation").iterdir()):
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
        shares.append((exact.predictor.predict(picture).labels() == fast.predictor.predict(picture).labels()).mean())
    assert len(shares) == 12
    assert np.mean(shares) >= 0.99
