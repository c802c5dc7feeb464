"""`train` on several ranks with PyTorch, each in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.codecs.params import read_params

TINY_TRAIN = (sys.executable, str(Path(__file__).parents[1] / "support/tiny_train.py"), "train")
SETTINGS = {"syncbn": "True", "mini_batch_size": "5", "_export_onnx": "False", "_workers": "1", "_loss": "dice+ce"}

pytestmark = [pytest.mark.needs("torch"), pytest.mark.slow]


def trained(new_job: Callable[..., Any], ranks: int) -> Any:
    """A job that so many ranks have trained."""
    made = new_job()
    job = type(made)(made.paths, TINY_TRAIN)
    job.configure(**SETTINGS, _ranks=str(ranks))
    code, log = job.run()
    assert code == 0, log
    return job


def curve(job: Any) -> list[list[float]]:
    """The loss, mIOU and pixel accuracy of each epoch."""
    lines = map(json.loads, (job.paths.output_data / "metrics.jsonl").read_text().splitlines())
    names = ("train_loss", "validation_loss", "mIOU", "pixel_accuracy")
    return [[float(line[name]) for name in names if name in line] for line in lines]


def test_two_ranks_have_the_curve_and_the_model_of_one_process(new_job: Callable[..., Any]) -> None:
    """In float64, with syncbn: ten images in batches of five, of which one rank has three and the other two."""
    alone, ranks = (trained(new_job, count) for count in (1, 2))
    assert curve(alone)
    np.testing.assert_allclose(curve(ranks), curve(alone), rtol=1e-9)
    for name in ("model_algo-1", "model_best.params"):
        expected, found = (read_params(job.paths.model / name) for job in (alone, ranks))
        assert expected.keys() == found.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-8, atol=1e-11, err_msg=key)
