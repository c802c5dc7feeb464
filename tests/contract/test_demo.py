"""`scripts/demo` as a newcomer runs it: the long training run of the tests, and what needs a trained network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readme import blocks

from semseg.artifact.onnx_file import verify
from semseg.cli import main
from semseg.files import sha256
from semseg.inference.load import load_predictor
from semseg.machine import has_bf16
from semseg.types import UInt8

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo wrote, and its output."""
    out = tmp_path_factory.mktemp("demo") / "out"
    environment = ["torch"] if Path(sys.prefix).name == ".venv-torch" else []
    command = [str(ROOT / "scripts/demo"), *environment, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([ROOT / "scripts/demo", "."], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
@pytest.mark.req("R1", "R2", "R8", "R10", "R49", "R50", "R51")
def test_it_learns_the_shapes(demo: tuple[Path, str]) -> None:
    """From scratch, on the CPU, within three minutes of training on two cores."""
    summary = json.loads((demo[0] / "output/data/metrics.json").read_text())
    assert summary["best"]["mIOU"] > 0.7


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.needs("mxnet")
@pytest.mark.req("R12")
def test_the_readmes_blocks_load_it_in_plain_gluoncv_and_export_it(demo: tuple[Path, str], tmp_path: Path) -> None:
    *_, export = blocks("sh")
    (load,) = (block for block in blocks("python") if "gluoncv" in block)
    (tmp_path / "job").symlink_to(demo[0])
    script = f"set -e\n{export}\npython -W ignore - <<'PYTHON'\n{load}\nPYTHON\n"
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    verify(demo[0] / "model/model.onnx", sha256(demo[0] / "model/model_best.params"))
    assert (tmp_path / "network-symbol.json").exists()
    assert (tmp_path / "network-0000.params").stat().st_size > 100_000_000


@pytest.mark.slow
@pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16")
def test_bf16_and_gluoncv_s_numbers_give_nearly_the_same_masks(demo: tuple[Path, str], f32: list[UInt8]) -> None:
    """Of a trained network."""
    assert agreement(labels(demo[0], "bf16"), f32) >= 0.99


@pytest.mark.slow
def test_int8_passes_its_gate_and_gives_nearly_the_same_masks(
    demo: tuple[Path, str], f32: list[UInt8], capsys: pytest.CaptureFixture[str]
) -> None:
    data = demo[0] / "input/data"
    command = ["quantize", demo[0] / "model", "--images", data / "train", "--annotations", data / "train_annotation"]
    assert main(list(map(str, command))) == 0
    gate = re.search(r"^kept: mIOU (\S+) in int8, (\S+) in f32, on 32 images$", capsys.readouterr().out, re.MULTILINE)
    assert gate
    assert float(gate[2]) > 0.7
    assert float(gate[2]) - float(gate[1]) <= 0.0051  # rounded
    assert agreement(labels(demo[0], "int8"), f32) >= 0.985
    sizes = [(demo[0] / "model" / name).stat().st_size for name in ("model_int8.onnx", "model.onnx")]
    assert 0.24 < sizes[0] / sizes[1] < 0.27


@pytest.fixture(scope="module")
def f32(demo: tuple[Path, str]) -> list[UInt8]:
    """The class of each pixel of the validation images, in f32."""
    return labels(demo[0], "f32")


def labels(out: Path, precision: str) -> list[UInt8]:
    """The class of each pixel of the validation images, uint8 (H, W) each."""
    predictor = load_predictor(out / "model", "openvino", precision).predictor
    images = [Image.open(path).convert("RGB") for path in sorted((out / "input/data/validation").iterdir())]
    assert len(images) == 12
    return [predictor.predict(np.asarray(image)).labels() for image in images]


def agreement(found: list[UInt8], expected: list[UInt8]) -> float:
    """The share of pixels with equal classes."""
    return float(np.mean([(a == b).mean() for a, b in zip(found, expected, strict=True)]))
