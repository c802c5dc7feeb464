"""The last step of a job with `_quantize`; the network and its gate are in tests/unit/exporting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import known, write_small_model

from semseg.artifact.gate import Gate
from semseg.data.s3 import ObjectStore
from semseg.data.shapes import write_shapes
from semseg.exporting import int8 as recipe
from semseg.reporting.events import Event, Quantized
from semseg.sagemaker import hyperparameters
from semseg.sagemaker.channels import Channels, Split
from semseg.training.inputs import Input, open_inputs
from semseg.training.int8 import quantize_model

SETTINGS, _ = hyperparameters.parse({"num_classes": "4", "crop_size": "24", "_quantize": "True"})


@pytest.fixture
def model_dir(tmp_path: Path) -> Iterator[Path]:
    with known():
        yield write_small_model(tmp_path / "small", num_classes=4)


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Channels:
    data = tmp_path_factory.mktemp("data")
    write_shapes(data, train=20, validation=3, size=(48, 40), seed=0)
    return split_channels(data)


def split_channels(data: Path, piped: bool = False) -> Channels:
    train, validation = (
        Split(name, data / name, None if piped else data / f"{name}_annotation", None, piped)
        for name in ("train", "validation")
    )
    return Channels(train, validation, None, None, None)


@pytest.fixture
def inputs(channels: Channels) -> tuple[Input, Input]:
    with ObjectStore() as store:
        return open_inputs(channels, 4, store)


class Asked:
    """Replaces quantization, and records its arguments."""

    def __call__(self, model: Any, path: Path, calibration: Any, validation: Callable[[], Any]) -> Gate:
        self.model, self.path = model, path
        self.calibration, self.validation = list(calibration), list(validation())
        return Gate(0.5, 0.4, len(self.validation))


def test_whole_training_images_calibrate_and_whole_validation_images_compare(
    model_dir: Path, inputs: tuple[Input, Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, events = Asked(), list[Event]()
    monkeypatch.setattr(recipe, "quantize", asked)
    quantize_model(model_dir, inputs, SETTINGS, lambda: False, events.append)
    assert (asked.model.params, asked.path) == (model_dir / "model_best.params", model_dir / "model_int8.onnx")
    assert [image.shape for image in asked.calibration] == [(40, 48, 3)] * 16
    assert [(image.shape, labels.shape) for image, labels in asked.validation] == [((40, 48, 3), (40, 48))] * 3
    assert set(np.unique([labels for _, labels in asked.validation])) <= {0, 1, 2, 3}
    assert events == [Quantized(0.5, 0.4, 3, kept=False)]


def test_the_result_has_both_numbers_and_the_file_is_written(
    model_dir: Path, inputs: tuple[Input, Input], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real quantization, but a gate that always passes, as the network is untrained."""
    monkeypatch.setattr(Gate, "passed", True)
    events: list[Event] = []
    quantize_model(model_dir, inputs, SETTINGS, lambda: False, events.append)
    (event,) = events
    assert isinstance(event, Quantized)
    assert (event.images, event.kept) == (3, True)
    assert 0 < event.f32 < 1
    assert {path.name for path in model_dir.iterdir()} == {"model_best.params", "model_int8.onnx"}


def test_a_failure_leaves_the_model_and_a_warning(
    tmp_path: Path, inputs: tuple[Input, Input], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model_algo-1").write_bytes(b"not what it should be")
    events: list[Event] = []
    with caplog.at_level("WARNING", logger="semseg"):
        quantize_model(tmp_path, inputs, SETTINGS, lambda: False, events.append)
    assert "The model is complete, but without model_int8.onnx. " in caplog.text
    assert str(tmp_path / "model_algo-1") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["model_algo-1"]
    assert events == []


def test_a_job_that_is_stopped_does_without(
    model_dir: Path, inputs: tuple[Input, Input], caplog: pytest.LogCaptureFixture
) -> None:
    """Before the images are read, or while they are."""
    for stops in ([True], [False, False, True]):
        asked = iter(stops)
        with caplog.at_level("WARNING", logger="semseg"):
            quantize_model(model_dir, inputs, SETTINGS, asked.__next__, lambda _: pytest.fail("nothing was found"))
        assert caplog.messages[-1] == "Stopping on request, without model_int8.onnx."
        assert not list(asked)
    assert [path.name for path in model_dir.iterdir()] == ["model_best.params"]
