"""`train` on several ranks of one machine: the same log, files and results as in one process, and no rank left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semseg.codecs.params import read_params

RANKS = {"_ranks": "2", "_export_onnx": "False", "_logging_frequency": "1", "_workers": "1", "mini_batch_size": "5"}
FILES = ("model_algo-1", "model_best.params")


def values(job: Any) -> list[dict[str, Any]]:
    """What is reported on the epochs, except the speeds."""
    lines = (job.paths.output_data / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith(("throughput", "waiting"))} for line in lines]


def lines_of(log: str) -> list[str]:
    """The log's lines without times, threads, speeds, folders and what is about ranks."""
    numbers = re.compile(r"^\[.*?\] |\d+\.\d+(e-\d+)?|/\S+|Process \d+|'_ranks': '\d', ")
    return [numbers.sub("*", line) for line in log.splitlines()]


@pytest.fixture(scope="module")
def both(new_job: Callable[..., Any]) -> tuple[Any, str, Any, str]:
    """Jobs that one process and two ranks have trained, with their logs."""
    alone, ranks = new_job(), new_job()
    alone.configure(**{**RANKS, "_ranks": "1"})
    ranks.configure(**RANKS)
    (code, log), (ranks_code, ranks_log) = alone.run(), ranks.run()
    assert (code, ranks_code) == (0, 0), log + ranks_log
    return alone, log, ranks, ranks_log


def test_two_ranks_train_what_one_process_does(both: tuple[Any, str, Any, str]) -> None:
    """Ten images in batches of five, of which one rank has three and the other two."""
    alone, _, ranks, _ = both
    for one, other in zip(values(alone), values(ranks), strict=True):
        assert one["IOU"] == pytest.approx(other["IOU"], abs=1e-3)
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    for name in FILES:
        expected, found = (read_params(job.paths.model / name) for job in (alone, ranks))
        assert expected.keys() == found.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-6)


def test_the_log_and_the_files_are_those_of_one_process(both: tuple[Any, str, Any, str]) -> None:
    alone, log, ranks, ranks_log = both
    assert lines_of(ranks_log) == lines_of(log)
    files = [sorted(path.relative_to(job.paths.base) for path in job.paths.base.rglob("*")) for job in (alone, ranks)]
    assert files[0] == files[1]
