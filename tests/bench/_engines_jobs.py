"""The jobs whose accuracy the bench `engines` compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from semseg.data.shapes import write_shapes
from semseg.sagemaker.paths import Paths

CHANNELS = ("train", "train_annotation", "validation", "validation_annotation")


@dataclass(frozen=True)
class Jobs:
    """How jobs train. size: width and height of their generated images; seeds: one more than the last seed, from 0."""

    size: tuple[int, int]
    train: int
    validation: int
    epochs: int
    seeds: int

    def miou(self, images: Path, engine: str, precision: str, seed: int) -> float:
        """The mIOU on the whole images of validation, 0 to 1, of a job on the images in a folder.

        Raises RuntimeError, with the job's log, when it fails.
        """
        paths = Paths(images / f"{engine}-{precision}-{seed}")
        paths.channel("").mkdir(parents=True)
        for name in CHANNELS:
            paths.channel(name).symlink_to(images / name)
        paths.hyperparameters.parent.mkdir()
        paths.hyperparameters.write_text(json.dumps(self._hyperparameters(engine, precision, seed)))
        environ = os.environ | {"SAGEMAKER_BASE_DIR": str(paths.base)}
        command: list[str | Path] = [sys.executable, Path(__file__).with_name("_engines_job.py"), engine]
        job = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if job.returncode:
            raise RuntimeError(f"The job {paths.base.name} failed: {job.stdout}{job.stderr}")
        metrics = json.loads((paths.output_data / "metrics.json").read_text())
        return float(metrics["whole_pictures"]["validation"]["mIOU"])

    def _hyperparameters(self, engine: str, precision: str, seed: int) -> dict[str, str]:
        """Those of scripts/demo, but for the number of epochs."""
        return {
            "num_classes": "4",
            "use_pretrained_model": "False",
            "optimizer": "adam",
            "learning_rate": "0.001",
            "epochs": str(self.epochs),
            "crop_size": "64",
            "base_size": "96",
            "mini_batch_size": "8",
            "validation_mini_batch_size": "1",
            "_export_onnx": "False",
            "_seed": str(seed),
            "_engine": engine,
            "precision_dtype": precision,
        }


JOBS = Jobs(size=(128, 96), train=240, validation=60, epochs=30, seeds=3)
TINY_JOBS = Jobs(size=(48, 32), train=8, validation=2, epochs=1, seeds=2)


def write_images(jobs: Jobs, folder: Path) -> None:
    """Generates their images in a folder."""
    write_shapes(folder, jobs.train, jobs.validation, jobs.size, seed=0)
