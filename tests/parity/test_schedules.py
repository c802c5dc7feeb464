from __future__ import annotations

import pytest

from semseg.engines.gluon import runtime
from semseg.sagemaker.hyperparameters import parse
from semseg.training.schedules import schedule


@pytest.mark.parametrize("name", ["poly", "cosine", "step"])
@pytest.mark.parametrize(("iterations", "epochs"), [(91, 10), (1, 2), (7, 3)])
def test_every_rate_is_gluoncvs(name: str, iterations: int, epochs: int) -> None:
    runtime.load()
    from gluoncv.utils import LRScheduler

    given = {"num_classes": "2", "epochs": str(epochs), "lr_scheduler": name, "lr_scheduler_step": "1, 2"}
    hyperparameters, _ = parse(given | {"learning_rate": "0.01", "lr_scheduler_factor": "0.3"})
    found = schedule(hyperparameters, iterations)
    expected = LRScheduler(
        name,
        base_lr=0.01,
        nepochs=epochs,
        iters_per_epoch=iterations,
        power=0.9,
        step_epoch=[1, 2],
        step_factor=0.3,
    )
    updates = range(1, iterations * epochs + 3)
    assert [found(update) for update in updates] == pytest.approx([expected(update) for update in updates], abs=1e-15)
