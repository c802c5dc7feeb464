from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from semseg.reporting.events import (
    EpochEnded,
    EpochTrained,
    EpochValidated,
    ModelSaved,
    Quantized,
    Resumed,
    Scored,
    Step,
)
from semseg.reporting.log import LogSink
from semseg.sagemaker.log_lines import set_up_logging
from semseg.types import Classes

TRAINED = EpochTrained(0, 20, 1.25, 0.0005, 48.5, 0.125)
VALIDATED = EpochValidated(0, 1.5, 0.75, 0.5, 0.625, [0.5, None], 42.5)


@pytest.fixture
def clock() -> Iterator[float]:
    """A clock that advances a second at each call."""
    return iter(float(second) for second in range(1000, 2000))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [re.sub(r"^\[.*? INFO \d+\] ", "", line) for line in capsys.readouterr().out.splitlines()]


def test_the_metric_definitions_of_users_find_their_numbers(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float], metric_definitions: dict[str, str]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    for event in (TRAINED, VALIDATED, EpochEnded(TRAINED, VALIDATED, 4, True)):
        sink(event)
    out = capsys.readouterr().out
    found = {name: re.findall(regex, out) for name, regex in metric_definitions.items()}
    assert found == {
        "train:loss": ["1.25"],
        "validation:pixel_accuracy": ["0.75"],
        "validation:mIOU": ["0.5"],
        "train:throughput": ["48.5"],
        "validation:throughput": ["42.5"],
        "train:progress": ["25.0"],
        "validation:loss": ["1.5"],
        "validation:final_mIOU": [],
    }


def test_a_notice_every_frequency_iterations_with_the_speed_since_the_last(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float]
) -> None:
    """The clock advances a second at each call: when training or validation starts, and at each notice."""
    set_up_logging()
    sink = LogSink("algo-1", 2, clock.__next__)
    for iteration in range(1, 6):
        sink(Step(3, "training", iteration, 5, 16, 0.01, 1.5))
    sink(TRAINED)
    sink(Step(3, "validation", 1, 2, 16, None, None))
    sink(Step(3, "validation", 2, 2, 4, None, None))
    assert [line for line in lines(capsys) if "notice" in line] == [
        "#progress_notice. epoch: 3, iterations: 2 speed: 32.0 samples/sec learning_rate: 0.010000",
        "#progress_notice. epoch: 3, iterations: 4 speed: 32.0 samples/sec learning_rate: 0.010000",
        "#progress_notice. epoch: 3, iterations: 2 speed: 20.0 samples/sec",
    ]


def test_the_first_notice_of_an_epoch_counts_the_time_of_its_first_iteration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging()
    now = 1000.0
    sink = LogSink("algo-1", 1, lambda: now)
    for epoch in range(2):
        for iteration in (1, 2):
            now += 4
            sink(Step(epoch, "training", iteration, 2, 16, 0.01, 1.5))
        sink(TRAINED)
        now += 2
        sink(Step(epoch, "validation", 1, 1, 16, None, None))
        now += 100  # the model is written
        sink(EpochEnded(TRAINED, VALIDATED, 4, True))
    speeds = re.findall(r"speed: (\S+)", capsys.readouterr().out)
    assert speeds == ["4.0", "4.0", "8.0"] * 2


def test_after_a_restart_nothing_is_logged_again_and_resets_are_counted_on(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    capsys.readouterr()
    before = EpochEnded(TRAINED, VALIDATED, 4, True)
    sink(Resumed((before,)))
    assert lines(capsys) == []
    sink(EpochEnded(dataclasses.replace(TRAINED, epoch=1), dataclasses.replace(VALIDATED, epoch=1), 4, True))
    (metrics,) = (json.loads(line[9:]) for line in lines(capsys) if line.startswith("#metrics"))
    assert metrics["Metrics"]["Reset Count"]["sum"] == 2


def test_metrics_lines_count_the_resets(capsys: pytest.CaptureFixture[str], clock: Iterator[float]) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    sink(EpochEnded(TRAINED, VALIDATED, 4, True))
    first, second = (json.loads(line[9:]) for line in lines(capsys) if line.startswith("#metrics"))
    assert first["Dimensions"]["Meta"] == "init_train_data_iter"
    assert second["Dimensions"] == {
        "Algorithm": "AWS/Semantic Segmentation",
        "Host": "algo-1",
        "Operation": "training",
        "epoch": 0,
        "Meta": "training_data_iter",
    }
    assert [metrics["Metrics"]["Reset Count"]["sum"] for metrics in (first, second)] == [0.0, 1.0]
    assert second["StartTime"] == first["EndTime"]


def test_the_wait_for_data_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str], clock: Iterator[float]) -> None:
    set_up_logging()
    LogSink("algo-1", 20, clock.__next__)(TRAINED)
    assert lines(capsys)[-1] == "Epoch 0: 12.5 % of the training time was spent waiting for data."


def test_the_validation_loss_and_the_mean_over_present_classes_have_lines_of_their_own(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    sink(VALIDATED)
    assert lines(capsys)[-2:] == [
        "#quality_metric. host: algo-1, epoch: 0, validation loss: 1.5 .",
        "#quality_metric. host: algo-1, epoch: 0, validation mIOU_present: 0.625 .",
    ]
    sink(dataclasses.replace(VALIDATED, mean_iou_present=None))
    assert not [line for line in lines(capsys) if "present" in line]


def test_a_validation_loss_that_is_no_number_is_a_warning(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    for loss in (math.nan, math.inf):
        sink(dataclasses.replace(VALIDATED, loss=loss))
    out = capsys.readouterr().out
    assert out.count("WARNING") == 2
    assert out.count("After 1 epoch the network's values for validation images are not finite") == 2
    assert "validation loss:" not in out


def test_the_measures_on_whole_images_are_not_found_by_the_published_regexes(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float], metric_definitions: dict[str, str]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__)
    capsys.readouterr()
    sink(Scored("validation", 7, 0.75, 0.5, 0.625, [0.5, None]))
    sink(Scored("test", 3, 0.25, 0.0, None, [None, None]))
    out = lines(capsys)
    assert out == [
        "The best model on the 7 whole images of validation:",
        "#final_metric. host: algo-1, validation pixel_accuracy: 0.75 .",
        "#final_metric. host: algo-1, validation mIOU: 0.5 .",
        "#final_metric. host: algo-1, validation mIOU_present: 0.625 .",
        "The best model on the 3 whole images of test:",
        "#final_metric. host: algo-1, test pixel_accuracy: 0.25 .",
        "#final_metric. host: algo-1, test mIOU: 0.0 .",
    ]
    found = {name: re.findall(regex, "\n".join(out)) for name, regex in metric_definitions.items()}
    assert {name: numbers for name, numbers in found.items() if numbers} == {"validation:final_mIOU": ["0.5"]}


def test_a_saved_model_is_named(capsys: pytest.CaptureFixture[str], clock: Iterator[float]) -> None:
    set_up_logging()
    LogSink("algo-1", 20, clock.__next__)(ModelSaved(Path("/opt/ml/model/model_best.params")))
    assert lines(capsys)[-1] == "Serializing model to /opt/ml/model/model_best.params"


@pytest.mark.parametrize(("kept", "word"), [(True, "kept"), (False, "discarded")])
def test_int8_is_logged_with_both_numbers(
    kept: bool, word: str, capsys: pytest.CaptureFixture[str], clock: Iterator[float]
) -> None:
    set_up_logging()
    LogSink("algo-1", 20, clock.__next__)(Quantized(0.41, 0.25, 12, kept))
    assert lines(capsys)[-1] == f"Validation mIOU in f32: 0.41, in int8: 0.25, on 12 images. int8 is {word}."


def test_each_class_with_a_name_has_a_line_of_its_own_on_whole_images(
    capsys: pytest.CaptureFixture[str], clock: Iterator[float], metric_definitions: dict[str, str]
) -> None:
    set_up_logging()
    sink = LogSink("algo-1", 20, clock.__next__, classes=Classes(("sky", None, "car", "tree mIOU"), (None,) * 4))
    capsys.readouterr()
    sink(Scored("validation", 7, 0.75, 0.5, None, [0.5, 0.25, None, 0.125]))
    out = lines(capsys)
    assert out[3:] == [
        "#final_metric. host: algo-1, validation IOU of sky: 0.5 .",
        "#final_metric. host: algo-1, validation IOU of tree mIOU: 0.125 .",
    ]
    assert not [name for name, regex in metric_definitions.items() if re.search(regex, "\n".join(out[3:]))]


def test_a_second_process_of_a_run_does_not_log_its_beginning_again(capsys: pytest.CaptureFixture[str]) -> None:
    LogSink("algo-1", 20, lambda: 0.0, begun=True)
    assert capsys.readouterr().out == ""
