from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event, Failed, Resumed, Step
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.paths import Paths
from semseg.training import results
from semseg.training.progress import BEGINNING, Progress
from semseg.training.ranks import ONE_RANK
from semseg.training.results import open_sinks
from semseg.types import Classes

ENDED = EpochEnded(
    EpochTrained(0, 3, 1.5, 0.001, 9.0, 0.0), EpochValidated(0, 1.5, 0.9, 0.5, None, [0.5], 8.0), 3, True
)


class Terminal:
    """Replaces all sinks by one that records what a progress bar would receive."""

    def __init__(self, *_: Any) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def job_in(base: Path) -> Any:
    """What the sinks need of a job."""
    settings, _ = parse({"num_classes": "4"})
    inputs = SimpleNamespace(classes=Classes.unknown(4))
    hosts = SimpleNamespace(current="algo-1")
    return SimpleNamespace(paths=Paths(base), settings=settings, inputs=inputs, hosts=hosts, ranks=ONE_RANK)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Terminal]:
    """Records the sinks for the log, the metrics and the terminal as they are opened."""
    found: list[Terminal] = []

    def open_one(*_: Any, **__: Any) -> Terminal:
        found.append(Terminal())
        return found[-1]

    for name in ("LogSink", "MetricsFile", "ReportFile", "ModelCard", "ProgressBar"):
        monkeypatch.setattr(results, name, open_one)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    return found


@pytest.mark.parametrize(
    ("progress", "first"), [(BEGINNING, []), (Progress(iteration=2), []), (Progress((ENDED,)), [Resumed((ENDED,))])]
)
def test_after_a_restart_all_sinks_are_given_the_epochs_of_before(
    opened: list[Terminal], tmp_path: Path, progress: Progress, first: list[Event]
) -> None:
    job = job_in(tmp_path)
    step = Step(1, "training", 1, 3, 2, 0.1, 0.5)
    with open_sinks(job, None, progress, keep_earlier=False) as emit:
        emit(step)
    assert [sink.events for sink in opened] == 5 * [[*first, step]]


def test_sinks_are_closed_whatever_is_raised(opened: list[Terminal], tmp_path: Path) -> None:
    job = job_in(tmp_path)

    def lose() -> None:
        with open_sinks(job, None, BEGINNING, keep_earlier=False):
            assert [sink.closed for sink in opened] == 5 * [0]
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        lose()
    assert [sink.closed for sink in opened] == 5 * [1]
    assert [sink.events for sink in opened] == 5 * [[Failed("RuntimeError('lost')")]]
