from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semseg.errors import DeviceMemoryError, DivergedError
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.paths import Paths
from semseg.training import fit
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import Checkpoints
from semseg.training.fit import build_loop
from semseg.training.job import Job
from semseg.training.prepare import Run
from semseg.training.progress import BEGINNING, Progress
from semseg.types import Classes


class Lost:
    """A learner with a weight that is NaN, although its loss is finite."""

    def parameters(self) -> dict[str, Any]:
        return {"layer2.weight": np.array([1, np.nan], np.float32)}

    state = parameters


@pytest.mark.parametrize("kept", [True, False])
def test_parameters_that_are_no_numbers_end_the_job_at_the_next_checkpoint_or_best_model_and_are_not_kept(
    tmp_path: Path, kept: bool
) -> None:
    settings, _ = parse({"num_classes": "4"})
    artifact = ArtifactWriter(tmp_path / "model", settings, Classes.unknown(4), lambda _: None)
    checkpoints = Checkpoints(tmp_path / "checkpoints", {}) if kept else None
    unused: Any = None
    learner: Any = Lost()
    job = Job(Paths(tmp_path), None, unused, settings, 1, unused, unused, checkpoints)
    run = Run(job, BEGINNING, False, learner, unused, artifact, unused)
    loop = build_loop(run, unused, unused)
    for save in (partial(loop.checkpoint, Progress(iteration=3)), loop.keep_best):
        with pytest.raises(DivergedError, match=r"layer2\.weight of its network have values that are not finite"):
            save()
    assert not kept or not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("devices", "batch", "crop", "advice"),
    [
        (
            1,
            "16",
            "480",
            " Now mini_batch_size is 16 and crop_size 480: half of a batch's pixels are left with "
            "mini_batch_size 8 or crop_size 336.",
        ),
        (
            2,
            "5",
            "480",
            " Now mini_batch_size is 5 on 2 devices and crop_size 480: half of a batch's pixels are left with "
            "mini_batch_size 2 or crop_size 336.",
        ),
        (
            1,
            "1",
            "240",
            " Now mini_batch_size is 1 and crop_size 240: half of a batch's pixels are left with crop_size 168.",
        ),
        (1, "1", "24", ""),
    ],
)
def test_a_full_gpu_ends_the_job_with_the_batch_and_the_crop_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, batch: str, crop: str, advice: str
) -> None:
    class Full:
        def run(self, *_: object) -> None:
            raise DeviceMemoryError("The GPU's memory is too small.", "Lower them.")

    unused: Any = SimpleNamespace(train=None, validation=None, gpus=devices)
    monkeypatch.setattr(fit, "training_data", lambda *_: None)
    monkeypatch.setattr(fit, "validation_data", lambda *_: None)
    monkeypatch.setattr(fit, "build_loop", lambda *_: Full())
    settings, _ = parse({"num_classes": "4", "mini_batch_size": batch, "crop_size": crop})
    job = Job(Paths(tmp_path), None, unused, settings, 1, unused, unused, None)
    with pytest.raises(DeviceMemoryError) as caught:
        fit.fit(Run(job, BEGINNING, False, unused, unused, unused, unused), threading.Event())
    assert str(caught.value) == f"The GPU's memory is too small. Lower them.{advice}"
