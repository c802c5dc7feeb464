from __future__ import annotations

import json
from pathlib import Path

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Quantized, Resumed, Scored
from semseg.reporting.metrics_file import MetricsFile
from semseg.types import Classes


def ended(epoch: int, mean_iou: float, improved: bool) -> EpochEnded:
    trained = EpochTrained(epoch, 9, 1.5, 0.001, 10.0, 0.25)
    return EpochEnded(trained, EpochValidated(epoch, 1.75, 0.9, mean_iou, 0.8, [0.8, None], 20.0), 3, improved)


def test_a_line_an_epoch_and_a_summary_of_the_best_and_the_last(tmp_path: Path) -> None:
    sink = MetricsFile(tmp_path / "data")
    for event in (ended(0, 0.4, True), ended(1, 0.5, True), ended(2, 0.3, False)):
        sink(event)
    lines = [json.loads(line) for line in (tmp_path / "data/metrics.jsonl").read_text().splitlines()]
    assert [line["mIOU"] for line in lines] == [0.4, 0.5, 0.3]
    assert lines[0] == {
        "epoch": 0,
        "train_loss": 1.5,
        "validation_loss": 1.75,
        "learning_rate": 0.001,
        "train_throughput": 10.0,
        "train_waiting": 0.25,
        "validation_throughput": 20.0,
        "pixel_accuracy": 0.9,
        "mIOU": 0.4,
        "mIOU_present": 0.8,
        "IOU": [0.8, None],
    }
    summary = json.loads((tmp_path / "data/metrics.json").read_text())
    assert summary == {"epochs": 3, "epochs_run": 3, "best": lines[1], "last": lines[2]}


def test_after_a_restart_the_files_begin_with_the_epochs_of_before(tmp_path: Path) -> None:
    events = ended(0, 0.4, True), ended(1, 0.5, True), ended(2, 0.3, False)
    straight, resumed = MetricsFile(tmp_path / "straight"), MetricsFile(tmp_path / "resumed")
    for event in events:
        straight(event)
    resumed(Resumed(events[:2]))
    resumed(events[2])
    for name in ("metrics.jsonl", "metrics.json"):
        assert (tmp_path / "resumed" / name).read_text() == (tmp_path / "straight" / name).read_text()


def test_a_second_run_starts_anew(tmp_path: Path) -> None:
    MetricsFile(tmp_path)(ended(0, 0.4, True))
    MetricsFile(tmp_path)(ended(0, 0.2, True))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    MetricsFile(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert not (tmp_path / "metrics.json").exists()


def test_those_of_an_earlier_run_may_stay_until_an_epoch_has_ended(tmp_path: Path) -> None:
    MetricsFile(tmp_path)(ended(0, 0.4, True))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    sink = MetricsFile(tmp_path, keep_earlier=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    sink(ended(0, 0.2, True))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["best"]["mIOU"] == 0.2


def test_a_loss_that_is_no_number_is_null(tmp_path: Path) -> None:
    trained = EpochTrained(0, 9, 1.5, 0.001, 10.0, 0.25)
    MetricsFile(tmp_path)(EpochEnded(trained, EpochValidated(0, float("inf"), 0.9, 0.1, 0.8, [0.8], 20.0), 1, True))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["validation_loss"] is None
    assert "Infinity" not in (tmp_path / "metrics.json").read_text()


def test_the_numbers_of_int8_come_to_the_summary(tmp_path: Path) -> None:
    sink = MetricsFile(tmp_path)
    sink(ended(0, 0.4, True))
    before = json.loads((tmp_path / "metrics.json").read_text())
    sink(Quantized(f32=0.41, int8=0.409, images=12, kept=True))
    int8 = {"mIOU_f32": 0.41, "mIOU_int8": 0.409, "pictures": 12, "kept": True}
    assert json.loads((tmp_path / "metrics.json").read_text()) == before | {"int8": int8}


def test_the_measures_on_whole_images_come_to_the_summary(tmp_path: Path) -> None:
    sink = MetricsFile(tmp_path)
    for split in ("validation", "test"):
        sink(Scored(split, 7, 0.75, 0.5, 0.625, [0.5, None]))
    measures = {"pictures": 7, "pixel_accuracy": 0.75, "mIOU": 0.5, "mIOU_present": 0.625, "IOU": [0.5, None]}
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary == {"whole_pictures": {"validation": measures, "test": measures}}


def test_the_names_of_the_classes_come_to_the_summary_if_there_are_any(tmp_path: Path) -> None:
    for classes, titles in ((Classes(("sky", None), (None, 0)), ["sky", "class 1"]), (Classes.unknown(2), None)):
        MetricsFile(tmp_path, classes=classes)(ended(0, 0.4, True))
        assert json.loads((tmp_path / "metrics.json").read_text()).get("classes") == titles
