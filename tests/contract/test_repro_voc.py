"""`scripts/repro-voc` without its training, which takes VOC2012 and a GPU."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

CHANNELS = ("train", "train-annotation", "validation", "validation-annotation")
REFERENCE = {
    "algorithm": "fcn",
    "backbone": "resnet-50",
    "crop-size": "240",
    "early-stopping": "True",
    "early-stopping-min-epochs": "10",
    "early-stopping-patience": "2",
    "epochs": "10",
    "learning-rate": "0.0001",
    "lr-scheduler": "poly",
    "mini-batch-size": "16",
    "num-classes": "21",
    "num-training-samples": "1464",
    "optimizer": "rmsprop",
    "use-pretrained-model": "True",
    "validation-mini-batch-size": "16",
}
"""The hyperparameters in the published log of a training with the built-in algorithm, whose mIOU is the reference."""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A tree like VOC2012's, of two images for training and one for validation; the fourth is not segmented."""
    root = tmp_path / "VOC devkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate(["2007_000032", "2007_000039", "2007_000033", "2012_004331"]):
        labels = np.full((30, 40), 255, np.uint8)
        labels[2:, 2:] = number
        mask = Image.fromarray(labels)
        mask.putpalette(bytes(range(256)) * 3)
        mask.save(root / f"SegmentationClass/{name}.png")
        Image.new("RGB", (40, 30), (number, 90, 9)).save(root / f"JPEGImages/{name}.jpg")
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n2007_000039\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")
    return root


def test_a_dry_run_lays_the_data_out_and_prints_the_references_command(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [str(ROOT / "scripts/repro-voc"), "--dry-run", str(voc.relative_to(tmp_path)), out.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(".venv/bin/semseg train "))
    words = shlex.split(line)[2:]
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    assert {name: options[name] for name in REFERENCE} == REFERENCE
    assert options.keys() - REFERENCE.keys() == {"job", "checkpoints", *CHANNELS}
    del options["job"], options["checkpoints"]
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    checked = subprocess.run([ROOT / ".venv/bin/semseg", "check", *given], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [len(list((out / name).iterdir())) for name in ("train", "train_annotation", "validation")] == [2, 2, 1]


def test_its_usage_says_what_it_needs(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "scripts/repro-voc", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/repro-voc ")
