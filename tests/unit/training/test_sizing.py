from __future__ import annotations

from typing import Any

import pytest

from semseg.engines.choose import Trainer
from semseg.engines.protocols import Device
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.paths import Paths
from semseg.training.job import Job
from semseg.training.ranks import ONE_RANK, Ranks
from semseg.training.sizing import log_division


def logged(caplog: pytest.LogCaptureFixture, tmp_path: Any, ranks: Ranks, gpus: int, batch: str) -> list[str]:
    settings, _ = parse({"num_classes": "21", "mini_batch_size": batch, "crop_size": "480"})
    unused: Any = None
    trainer = Trainer(unused, Device("a device", gpus), "float32")
    job = Job(Paths(tmp_path), None, unused, settings, 1, unused, trainer, None, ranks)
    with caplog.at_level("INFO", logger="semseg"):
        log_division(job)
    return caplog.messages


def test_the_division_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    (line,) = logged(caplog, tmp_path, Ranks(2, 3, 1), 2, "16")
    assert line == (
        "Training on 6 devices, 2 on each of 3 hosts. An update takes 16 images, 2 or 3 on each device, and there "
        "about 4.9 GiB of memory (estimated)."
    )


def test_so_is_that_of_several_gpus_in_one_process(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    (line,) = logged(caplog, tmp_path, ONE_RANK, 4, "16")
    assert line.startswith("Training on 4 devices, 4 on each of 1 hosts. An update takes 16 images, 4 on each device, ")


@pytest.mark.parametrize("gpus", [0, 1])
def test_nothing_is_logged_for_one_device(caplog: pytest.LogCaptureFixture, tmp_path: Any, gpus: int) -> None:
    assert logged(caplog, tmp_path, ONE_RANK, gpus, "16") == []
