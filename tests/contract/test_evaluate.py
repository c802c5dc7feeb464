"""`semseg evaluate` on what a training has scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_learner import BACKBONE, NETWORK, SmallLearner
from small_model import known

from semseg import cli
from semseg.codecs.params import read_params
from semseg.inference.predictor import Predictor
from semseg.offline.model import load


def test_a_model_is_measured_by_the_label_map_of_its_training(
    new_job: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job()
    for split in ("train", "validation"):
        for path in job.paths.channel(f"{split}_annotation").glob("*.png"):
            with Image.open(path) as mask:
                values = 10 * np.asarray(mask)
            Image.fromarray(values).save(path)
    job.paths.channel("label_map").mkdir()
    (job.paths.channel("label_map") / "label_map.json").write_text('{"scale": "10"}')
    assert job.run()[0] == 0
    images, annotations = job.paths.channel("validation"), job.paths.channel("validation_annotation")
    with known([NETWORK], [BACKBONE]):
        options = ["--images", str(images), "--annotations", str(annotations), "--out", str(tmp_path)]
        assert cli.main(["evaluate", str(job.paths.base), *options, "--precision", "f32"]) == 0
    assert 'the label map of the training, {"scale": "10"}.' in capsys.readouterr().err
    (found,) = json.loads((tmp_path / "evaluation.json").read_text())["evaluations"]
    scored = json.loads((job.paths.output_data / "metrics.json").read_text())["whole_pictures"]["validation"]
    assert found["mean_all"]["iou"] == pytest.approx(scored["mIOU"], abs=1e-3)


def test_the_images_of_a_training_s_validation_get_its_scores(new_job: Callable[..., Any], tmp_path: Path) -> None:
    """Another engine computes them, in f32: at most 0.01 % of the pixels differ."""
    job = new_job(validation=12, size=(128, 96))
    assert job.run()[0] == 0
    images, annotations = job.paths.channel("validation"), job.paths.channel("validation_annotation")
    options = ["--images", str(images), "--annotations", str(annotations), "--out", str(tmp_path), "--precision", "f32"]
    with known([NETWORK], [BACKBONE]):
        assert cli.main(["evaluate", str(job.paths.base), *options]) == 0
        model = load(str(job.paths.base), precision="f32")
    trained = Predictor(SmallLearner(read_params(job.paths.model / "model_best.params")), 4, 10**6)
    different = pixels = 0
    for path in images.iterdir():
        with Image.open(path) as image:
            rgb = np.asarray(image)
        different += np.count_nonzero(model.segment(rgb).mask != trained.predict(rgb).labels())
        pixels += rgb.shape[0] * rgb.shape[1]
    assert pixels == 12 * 128 * 96
    assert different <= pixels / 10_000

    (found,) = json.loads((tmp_path / "evaluation.json").read_text())["evaluations"]
    scored = json.loads((job.paths.output_data / "metrics.json").read_text())["whole_pictures"]["validation"]
    assert found["images"] == scored["pictures"] == 12
    assert found["pixel_accuracy"] == pytest.approx(scored["pixel_accuracy"], abs=1e-4)
    assert found["mean_all"]["iou"] == pytest.approx(scored["mIOU"], abs=1e-3)
    assert found["mean_present"]["iou"] == pytest.approx(scored["mIOU_present"], abs=1e-3)
    assert [one["iou"] for one in found["classes"]] == pytest.approx(scored["IOU"], abs=1e-3)
