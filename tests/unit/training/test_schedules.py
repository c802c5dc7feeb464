from __future__ import annotations

import pytest

from semseg.sagemaker.hyperparameters import parse
from semseg.training.schedules import iterations_per_epoch, schedule


def test_an_epoch_has_the_originals_iterations() -> None:
    assert iterations_per_epoch(1464, 16) == 91
    assert iterations_per_epoch(16, 16) == 1
    assert iterations_per_epoch(3, 16) == 1


def test_poly_gives_the_rates_of_the_originals_log() -> None:
    """The built-in algorithm logged learning_rate 0.000098 after 20 iterations of 10 epochs of 91."""
    hyperparameters, _ = parse({"num_classes": "21", "learning_rate": "0.0001"})
    rate = schedule(hyperparameters, 91)
    assert f"{rate(20):.6f}" == "0.000098"
    assert rate(1) == pytest.approx(1e-4 * (1 - 1 / 909) ** 0.9)
    assert rate(910) == 0.0
    assert rate(2000) == 0.0


@pytest.mark.parametrize("name", ["poly", "cosine", "step"])
def test_a_schedule_of_one_iteration_keeps_the_base_rate(name: str) -> None:
    given = {"num_classes": "2", "epochs": "1", "lr_scheduler": name, "lr_scheduler_step": "5"}
    hyperparameters, _ = parse(given)
    rate = schedule(hyperparameters, 1)
    assert [rate(1), rate(2)] == [0.001, 0.001]


def test_step_falls_after_each_listed_epoch() -> None:
    given = {"num_classes": "2", "lr_scheduler": "step", "lr_scheduler_step": "2, 3", "lr_scheduler_factor": "0.5"}
    hyperparameters, _ = parse(given)
    rate = schedule(hyperparameters, 10)
    assert [rate(19), rate(20), rate(30)] == [0.001, 0.0005, 0.00025]
