from __future__ import annotations

import dataclasses
import json

import pytest

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated
from semseg.training.progress import Progress


def ended(epoch: int, mean_iou: float) -> EpochEnded:
    trained = EpochTrained(epoch, 3 + epoch, 0.1 + 0.2, 1e-4 / 3, 10.0, 0.01)
    return EpochEnded(trained, EpochValidated(epoch, 1.5, 0.9, mean_iou, None, [1 / 3, None], 20.0), 5, True)


PROGRESS = Progress((ended(0, 0.25), ended(1, 0.2)), 2, 8, 2.1, 0.7, 0.1, EpochTrained(2, 2, 1.05, 0.001, 11.4, 0.1))


def test_progress_counts_epochs_and_updates() -> None:
    assert (PROGRESS.epoch, PROGRESS.updates, PROGRESS.best) == (2, 3 + 4 + 2, 0.25)
    assert (Progress().epoch, Progress().updates) == (0, 0)
    assert Progress().best < 0


def test_a_step_adds_its_loss_and_its_images() -> None:
    progress = Progress().stepped(2.0, 4, 0.5, 0.1).stepped(1.0, 3, 1.25, 0.2)
    assert progress == Progress(iteration=2, samples=7, loss=3.0, seconds=1.25, waiting=0.2)


def test_progress_survives_being_written_exactly() -> None:
    for progress in (PROGRESS, Progress(), dataclasses.replace(PROGRESS, trained=None)):
        assert Progress.from_json(progress.to_json()) == progress


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"ended": 7}',
        100_000 * "[",
        PROGRESS.to_json().replace('"iteration": 2', '"iteration": "two"'),
        PROGRESS.to_json().replace('"iteration": 2', '"iteration": Infinity'),
        PROGRESS.to_json().replace('"iteration": 2', '"iteration": -2'),
        PROGRESS.to_json().replace('"iterations": 4', '"iterations": -4'),
        PROGRESS.to_json().replace('"iou": [', '"iou": ["x", '),
        json.dumps(json.loads(PROGRESS.to_json()) | {"ended": [[]]}),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Progress.from_json(text)
