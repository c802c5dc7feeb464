"""`train` on several ranks with PyTorch, each in a process of its own, on one host or on several."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import net_hosts
import numpy as np
import pytest

from semseg.codecs.params import read_params

TINY_TRAIN = (sys.executable, str(Path(__file__).parents[1] / "support/tiny_train.py"), "train")
SETTINGS = {"syncbn": "True", "mini_batch_size": "5", "_export_onnx": "False", "_workers": "1", "_loss": "dice+ce"}

pytestmark = pytest.mark.needs("torch")


def tiny_job(new_job: Callable[..., Any], ranks: int = 1, prefix: tuple[str, ...] = ()) -> Any:
    """A job of so many ranks on its host, whose command has the prefix."""
    made = new_job()
    job = type(made)(made.paths, (*prefix, *TINY_TRAIN))
    job.configure(**SETTINGS, _ranks=str(ranks))
    return job


def trained(new_job: Callable[..., Any], ranks: int) -> Any:
    """A job that so many ranks of one host have trained."""
    job = tiny_job(new_job, ranks)
    code, log = job.run()
    assert code == 0, log
    return job


@pytest.fixture(scope="module")
def alone(new_job: Callable[..., Any]) -> Any:
    """A job that one process has trained."""
    return trained(new_job, 1)


def curve(job: Any) -> list[list[float]]:
    """The loss, mIOU and pixel accuracy of each epoch."""
    lines = map(json.loads, (job.paths.output_data / "metrics.jsonl").read_text().splitlines())
    names = ("train_loss", "validation_loss", "mIOU", "pixel_accuracy")
    return [[float(line[name]) for name in names if name in line] for line in lines]


def require_equal(job: Any, alone: Any) -> None:
    """Raises AssertionError unless a job has the curve and the models of one process."""
    assert len(curve(alone)) == 2
    np.testing.assert_allclose(curve(job), curve(alone), rtol=1e-9)
    for name in ("model_algo-1", "model_best.params"):
        expected, found = (read_params(one.paths.model / name) for one in (alone, job))
        assert expected.keys() == found.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-8, atol=1e-11, err_msg=key)


@pytest.mark.slow
def test_two_ranks_train_as_one_process(new_job: Callable[..., Any], alone: Any) -> None:
    """In float64, with syncbn: ten images in batches of five, of which one rank has three and the other two."""
    require_equal(trained(new_job, 2), alone)


@pytest.mark.hosts
def test_three_hosts_train_as_one_process(new_job: Callable[..., Any], alone: Any) -> None:
    """In network namespaces; the third host has one image of each batch."""
    if reason := net_hosts.impossible():
        pytest.skip(reason)
    with ExitStack() as opened:
        network = opened.enter_context(net_hosts.network(3))
        jobs = [tiny_job(new_job, prefix=network.prefix(number)) for number in range(3)]
        for job, address in zip(jobs, network.addresses, strict=True):
            config = {
                "current_host": address,
                "hosts": network.addresses,
                "network_interface_name": net_hosts.INTERFACE,
            }
            job.paths.resource_config.write_text(json.dumps(config))
        processes = [opened.enter_context(job.start()) for job in jobs]
        try:
            logs = [process.communicate(timeout=300)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], logs
    require_equal(jobs[0], alone)
