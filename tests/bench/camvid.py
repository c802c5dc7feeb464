"""Trains FCN-ResNet50 from scratch on CamVid, and prints the curve and the mIOU on whole images.

--minutes N: the approximate duration on two idle cores (20). --kill: trains a second time, killed after half of the
epochs and restarted from its checkpoints alone; the curve and the parameters must be the same.
The data set is expected in the four-directory layout in $SEMSEG_CAMVID, by default ../shared/data/camvid. The model is
kept in .cache/camvid/model for other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from semseg.data.label_map_files import find_label_map
from semseg.data.loader import ValidationLoader
from semseg.data.pairs import list_pairs
from semseg.data.samples import Sampler
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.files import sha256
from semseg.sagemaker.paths import Paths

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEMSEG_CAMVID", ROOT / "../shared/data/camvid")).resolve()
CHANNELS = ("train", "train_annotation", "validation", "validation_annotation", "label_map")
NUM_CLASSES, ROAD, CROP = 11, 3, 160
BAR = 4.0
HYPERPARAMETERS = {
    "num_classes": str(NUM_CLASSES),
    "use_pretrained_model": "False",
    "crop_size": str(CROP),
    "base_size": "240",
    "mini_batch_size": "8",
    "optimizer": "adam",
    "learning_rate": "0.0005",
}
MINUTES_OF_AN_EPOCH = 3.6


def main() -> int:
    """Trains, prints the curve and the baseline; returns 1 if the bar is missed."""
    if not CAMVID.is_dir():
        print(f"{CAMVID} does not exist: set SEMSEG_CAMVID", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    num_epochs = max(2, round(arguments.minutes / MINUTES_OF_AN_EPOCH))
    paths = make_job(ROOT / ".cache/camvid", num_epochs)
    train(paths)
    kept = curve(paths)
    if arguments.kill:
        again = make_job(ROOT / ".cache/camvid-killed", num_epochs)
        train(again, kill_after=num_epochs // 2)
        train(again)
        kept = same(paths, again) and kept
    return int(not kept)


def make_job(base: Path, epochs: int) -> Paths:
    """Lays out a new job with checkpoints."""
    paths = Paths(base)
    shutil.rmtree(base, ignore_errors=True)
    paths.hyperparameters.parent.mkdir(parents=True)
    paths.hyperparameters.write_text(json.dumps(HYPERPARAMETERS | {"epochs": str(epochs)}))
    paths.checkpoint_config.write_text(json.dumps({"LocalPath": str(base / "checkpoints")}))
    paths.channel("").mkdir()
    for name in CHANNELS:
        paths.channel(name).symlink_to(CAMVID / name)
    return paths


def train(paths: Paths, kill_after: int | None = None) -> None:
    """Runs the job to its end; with kill_after, kills it after this number of checkpoints and removes its model."""
    environ = os.environ | {"SAGEMAKER_BASE_DIR": str(paths.base)}
    command = [sys.executable, "-m", "semseg", "train"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        num_checkpoints = 0
        for line in process.stdout:
            sys.stderr.write(line)
            num_checkpoints += line.count("Checkpoint saved to")
            if kill_after is not None and num_checkpoints >= kill_after and "#progress_notice" in line:
                process.kill()
                break
    if kill_after is None:
        assert process.returncode == 0
    else:
        assert process.returncode == -signal.SIGKILL
        shutil.rmtree(paths.model, ignore_errors=True)


def same(one: Paths, other: Paths) -> bool:
    """Whether two jobs have the same parameters and curve."""
    kept = True
    for name in ("model_best.params", "model_algo-1"):
        kept = sha256(one.model / name) == sha256(other.model / name) and kept
    curves = [[(epoch["train_loss"], epoch["mIOU"]) for epoch in epochs(paths)] for paths in (one, other)]
    kept = curves[0] == curves[1] and kept
    print(f"killed at half and resumed: {'the same' if kept else 'DIFFERENT'} curve and parameters")
    return kept


def epochs(paths: Paths) -> list[dict[str, Any]]:
    """The metrics of each epoch."""
    return [json.loads(line) for line in (paths.output_data / "metrics.jsonl").read_text().splitlines()]


def curve(paths: Paths) -> bool:
    """Prints the curve; returns whether the bar is met."""
    baseline = all_road(paths)
    metrics = epochs(paths)
    print("epoch  train loss  pixel accuracy   mIOU")
    for epoch in metrics:
        print(f"{epoch['epoch']:5}  {epoch['train_loss']:10.4f}  {epoch['pixel_accuracy']:14.4f}  {epoch['mIOU']:.4f}")
    print(f"every pixel road       {baseline.pixel_accuracy():14.4f}  {baseline.mean_iou():.4f}")
    whole = json.loads((paths.output_data / "metrics.json").read_text())["whole_pictures"]["validation"]
    print(f"best model on whole images: mIOU {whole['mIOU']:.4f}, of the classes present {whole['mIOU_present']:.4f}")
    ratio = max(epoch["mIOU"] for epoch in metrics) / baseline.mean_iou()
    print(f"best mIOU over the all-road baseline: {ratio:.2f}, bar {BAR}, {'ok' if ratio >= BAR else 'short'}")
    return bool(ratio >= BAR)


def all_road(paths: Paths) -> ConfusionMatrix:
    """The score of predicting road for every pixel, on the crops that the job validated on."""
    pairs = list_pairs("validation", paths.channel("validation"), paths.channel("validation_annotation")).pairs
    annotation = paths.channel("validation_annotation")
    label_map = find_label_map("validation", annotation, paths.channel("label_map"), NUM_CLASSES)
    matrix = ConfusionMatrix(NUM_CLASSES)
    sampler = Sampler(label_map, CROP, base_size=240, seed=0, workers=2)
    for batch in ValidationLoader(pairs, sampler, batch_size=16).epoch(0):
        matrix.update(batch.labels, np.full_like(batch.labels, ROAD))
    return matrix


if __name__ == "__main__":
    sys.exit(main())
