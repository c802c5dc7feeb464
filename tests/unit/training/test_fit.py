from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.errors import DivergedError
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.paths import Paths
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import Checkpoints
from semseg.training.fit import build_loop
from semseg.training.job import Job
from semseg.training.prepare import Run
from semseg.training.progress import BEGINNING, Progress


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
    artifact = ArtifactWriter(tmp_path / "model", settings, None, lambda _: None)
    checkpoints = Checkpoints(tmp_path / "checkpoints", {}) if kept else None
    unused: Any = None
    learner: Any = Lost()
    job = Job(Paths(tmp_path), None, unused, settings, 1, unused, checkpoints)
    run = Run(job, BEGINNING, False, learner, unused, artifact, unused)
    loop = build_loop(run, unused, unused)
    for save in (partial(loop.checkpoint, Progress(iteration=3)), loop.keep_best):
        with pytest.raises(DivergedError, match=r"layer2\.weight of its network have values that are not finite"):
            save()
    assert not kept or not list((tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "model").exists()
