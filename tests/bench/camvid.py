"""Real pictures: trains FCN-ResNet50 from scratch on CamVid for about 20 minutes on two cores, and prints the curve.

The data set is expected in the four-directory layout in $SEMSEG_CAMVID, by default ../shared/data/camvid. The model is
kept in .cache/camvid/model for other benchmarks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from semseg.data.label_map import find_label_map
from semseg.data.loader import ValidationLoader
from semseg.data.pairs import list_pairs
from semseg.data.samples import Sampler
from semseg.evaluation.confusion import ConfusionMatrix
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
    "epochs": "5",
}


def main() -> int:
    """Trains, prints the curve and the baseline; 1 if the bar is missed."""
    if not CAMVID.is_dir():
        print(f"{CAMVID} does not exist: set SEMSEG_CAMVID", file=sys.stderr)
        return 2
    paths = Paths(ROOT / ".cache/camvid")
    shutil.rmtree(paths.base, ignore_errors=True)
    paths.hyperparameters.parent.mkdir(parents=True)
    paths.hyperparameters.write_text(json.dumps(HYPERPARAMETERS))
    paths.channel("").mkdir()
    for name in CHANNELS:
        paths.channel(name).symlink_to(CAMVID / name)
    subprocess.run(
        [sys.executable, "-m", "semseg", "train"], env=os.environ | {"SAGEMAKER_BASE_DIR": str(paths.base)}, check=True
    )
    baseline = all_road(paths)
    epochs = [json.loads(line) for line in (paths.output_data / "metrics.jsonl").read_text().splitlines()]
    print("epoch  train loss  pixel accuracy   mIOU")
    for epoch in epochs:
        print(f"{epoch['epoch']:5}  {epoch['train_loss']:10.4f}  {epoch['pixel_accuracy']:14.4f}  {epoch['mIOU']:.4f}")
    print(f"every pixel road       {baseline.pixel_accuracy():14.4f}  {baseline.mean_iou():.4f}")
    ratio = max(epoch["mIOU"] for epoch in epochs) / baseline.mean_iou()
    print(f"best mIOU over the all-road baseline: {ratio:.2f}, bar {BAR}, {'ok' if ratio >= BAR else 'short'}")
    return int(ratio < BAR)


def all_road(paths: Paths) -> ConfusionMatrix:
    """The score of calling every validation pixel road, on the crops that the job validated."""
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
