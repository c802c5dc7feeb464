from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.codecs.params import read_params
from semseg.data.shapes import write_shapes
from semseg.errors import Stopped
from semseg.reporting.events import EpochEnded, Event, Failed, ModelSaved, Resumed, Step
from semseg.sagemaker.paths import Paths
from semseg.training import prepare, results
from semseg.training.inputs import check_inputs
from semseg.training.job_folder import JobFolder
from semseg.training.recipe import train
from semseg.types import Arrays, Batch, Float32, UInt8

QUICK = {
    "num_classes": "4",
    "crop_size": "24",
    "mini_batch_size": "1",
    "epochs": "2",
    "use_pretrained_model": "False",
    "_export_onnx": "False",
}


class OneWeight(OnHost):
    """A learner with one weight, which counts its updates."""

    def __init__(self, after_step: Callable[[int], None]) -> None:
        self.after_step = after_step
        self.weight = np.zeros(1, np.float32)

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
        self.weight = self.weight + 1
        self.after_step(int(self.weight[0]))
        return 1 / float(self.weight[0])

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        return np.zeros_like(batch.labels), 1.0

    def logits(self, images: Float32) -> Float32:
        _, _, height, width = images.shape
        return np.zeros((1, 4, -(-height // 8), -(-width // 8)), np.float32)

    def load(self, arrays: Arrays, origin: str) -> None:
        self.weight = np.array(arrays["weight"])

    restore = load

    def parameters(self) -> Arrays:
        return {"weight": self.weight}

    state = parameters


@dataclasses.dataclass
class Recording:
    """A sink that records all events, and those after it was closed."""

    events: list[Event] = dataclasses.field(default_factory=list)
    closed: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed.append(len(self.events))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A job of two epochs with two images each, which keeps checkpoints."""
    write_shapes(tmp_path / "input/data", train=2, validation=1, size=(40, 40), seed=0)
    config = tmp_path / "input/config"
    config.mkdir()
    (config / "hyperparameters.json").write_text(json.dumps(QUICK))
    checkpoints = {"S3Uri": "s3://bucket/checkpoints", "LocalPath": str(tmp_path / "checkpoints")}
    (config / "checkpointconfig.json").write_text(json.dumps(checkpoints))
    return Paths(tmp_path)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Replaces the log among the sinks."""
    recording = Recording()
    monkeypatch.setattr(results, "LogSink", lambda *_, **__: recording)
    return recording


def at(update: int, act: Callable[[], None]) -> Callable[[int], None]:
    """Returns a callback that acts after this update, counted from 1."""
    return lambda done: act() if done == update else None


def run(
    paths: Paths,
    monkeypatch: pytest.MonkeyPatch,
    after_step: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
    folder: JobFolder | None = None,
) -> None:
    """Train the one weight; `after_step` is called with the number of each update once it is made."""

    def build(settings: Any, earlier: Any, checkpoint: Any, *_: Any) -> OneWeight:
        learner = OneWeight(after_step)
        if checkpoint:
            learner.restore({name: np.array(array) for name, array in checkpoint.state.items()}, "")
        return learner

    monkeypatch.setattr(prepare, "build_learner", build)
    train(paths, stop or threading.Event(), folder)


def test_sinks_are_closed_when_all_is_done(paths: Paths, sink: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    run(paths, monkeypatch)
    assert [step.loss for step in sink.of(Step)] == [1, 1 / 2, None, 1 / 3, 1 / 4, None]
    assert sink.of(ModelSaved)[-1].path == paths.model / "model_algo-1"
    assert sink.closed == [len(sink.events)]


def test_sinks_are_closed_when_the_training_is_stopped(
    paths: Paths, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    run(paths, monkeypatch, at(3, stop.set), stop)
    assert [step.iteration for step in sink.of(Step)] == [1, 2, 1, 1]
    assert sink.of(ModelSaved)[-1].path == paths.model / "model_algo-1"
    assert sink.closed == [len(sink.events)]


def test_sinks_are_closed_when_the_training_is_stopped_before_it_begins(
    paths: Paths, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    monkeypatch.setattr("semseg.training.prepare.build_schedule", lambda *_: stop.set())
    with pytest.raises(Stopped):
        run(paths, monkeypatch, stop=stop)
    assert (sink.events, sink.closed) == ([], [0])


def test_sinks_are_closed_when_the_training_fails(
    paths: Paths, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        run(paths, monkeypatch, at(2, fail))
    assert [step.iteration for step in sink.of(Step)] == [1]
    assert sink.events[-1] == Failed("RuntimeError('lost')")
    assert sink.closed == [2]


def test_after_a_restart_sinks_begin_with_the_epochs_of_before(
    paths: Paths, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics file has every epoch once, although it was lost."""
    stop = threading.Event()
    run(paths, monkeypatch, at(3, stop.set), stop)
    (before,) = sink.of(EpochEnded)
    (paths.output_data / "metrics.jsonl").unlink()
    sink.events.clear()
    run(paths, monkeypatch)
    assert sink.events[0] == Resumed((before,))
    assert [ended.trained.epoch for ended in sink.of(EpochEnded)] == [1]
    lines = (paths.output_data / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


@pytest.fixture
def resumed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Stops the job at its third update; returns an event that is set during the data check of the next run."""
    stop = threading.Event()
    run(paths, monkeypatch, at(3, stop.set), stop)
    stop.clear()

    def checked(*given: Any) -> Any:
        stop.set()
        return check_inputs(*given)

    monkeypatch.setattr(prepare, "check_inputs", checked)
    return stop


def test_stopped_in_the_check_a_resumed_training_saves_the_model_of_its_checkpoint(
    paths: Paths, resumed: threading.Event, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform starts with an empty model directory, and uploads its content at the end."""
    for file in paths.model.iterdir():
        file.unlink()
    run(paths, monkeypatch, stop=resumed)
    assert [saved.path.name for saved in sink.of(ModelSaved)] == ["model_best.params", "model_algo-1"]
    assert sink.of(Step) == []
    assert read_params(paths.model / "model_algo-1")["weight"] == 3


def test_stopped_in_the_check_a_resumed_training_of_a_folder_leaves_all_as_it_was(
    paths: Paths, resumed: threading.Event, sink: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(paths, paths.base / "checkpoints", overwrite=False, earlier_checkpoints={}, places={})
    files = [path for place in (paths.model, paths.base / "checkpoints") for path in place.iterdir()]
    before = {path: path.stat().st_mtime_ns for path in files}
    with pytest.raises(Stopped, match="Stopped before training resumed: model and checkpoint are unchanged"):
        run(paths, monkeypatch, stop=resumed, folder=folder)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert sink.events == []
