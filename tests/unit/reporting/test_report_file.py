from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_report import made_classes, made_epochs, made_matrix

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting import report_file
from semseg.reporting.events import (
    Compared,
    Counted,
    EpochEnded,
    Event,
    Failed,
    Quantized,
    Resumed,
    Scored,
    Step,
    Stopping,
)
from semseg.reporting.html.content import ReportContent
from semseg.reporting.html.render import write_report
from semseg.reporting.report_file import Background, ReportFile
from semseg.types import Batch

KNOWN = Background("FCN on ResNet-50", 4, made_classes(3, ("sky", "road", "car")))
EPOCHS = [
    dataclasses.replace(epoch, improved=improved)
    for epoch, improved in zip(made_epochs(4, 3), (True, True, False, False), strict=True)
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[ReportContent]:
    """What is written, besides the files."""
    found: list[ReportContent] = []

    def record(content: ReportContent, path: Path) -> None:
        found.append(dataclasses.replace(content, epochs=list(content.epochs)))
        write_report(content, path)

    monkeypatch.setattr(report_file, "write_report", record)
    return found


def validation(ended: EpochEnded) -> list[Event]:
    """The events of an epoch, with an image of that name and a matrix with that many pixels."""
    number = ended.trained.epoch
    labels = np.zeros((1, 8, 8), np.uint8)
    batch = Batch(np.zeros((1, 8, 8, 3), np.uint8), labels, (f"of epoch {number}",))
    matrix = ConfusionMatrix(3)
    matrix.counts[0, 0] = 100 + number
    predicted = np.ones_like(labels)
    return [
        Step(number, "training", 1, 1, 1, 0.1, 1.0),
        ended.trained,
        Compared(number, batch, predicted),
        Counted(number, matrix),
        ended.validated,
        ended,
    ]


def sent(sink: ReportFile, *events: Event) -> None:
    for event in events:
        sink(event)


def shown(content: ReportContent) -> tuple[int, set[str]]:
    """The epochs whose matrix and whose images a report shows."""
    assert content.matrix
    names = {sample.name for group in content.samples for sample in group.samples}
    return int(content.matrix.counts[0, 0]) - 100, names


def test_it_is_written_after_each_epoch_and_shows_the_best(tmp_path: Path, written: list[ReportContent]) -> None:
    sink = ReportFile(tmp_path / "data", KNOWN)
    for epoch in EPOCHS[:3]:
        sent(sink, *validation(epoch))
    assert [len(content.epochs) for content in written] == [1, 2, 3]
    assert [shown(content) for content in written] == [
        (0, {"of epoch 0"}),
        (1, {"of epoch 1"}),
        (1, {"of epoch 1"}),
    ]
    assert [content.measured_on for content in written] == [
        "epoch 1, the best, on the validation crops",
        *2 * ["epoch 2, the best, on the validation crops"],
    ]
    assert [content.status for content in written] == [f"{number} of 4 epochs are done." for number in (1, 2, 3)]
    text = (tmp_path / "data/report.html").read_text()
    assert "3 of 4 epochs are done." in text
    assert "of epoch 1" in text
    assert "The dashed vertical line is the best epoch, 2. Epochs count from 1 here, from 0 in the log" in text
    assert "chosen by their names alone. Epoch 2, the best." in text
    best = EPOCHS[1].validated
    assert [(figure.name, figure.value, figure.note) for figure in written[-1].figures] == [
        ("Best mIOU", best.mean_iou, "epoch 2"),
        ("Pixel accuracy", best.pixel_accuracy, "epoch 2"),
    ]


@pytest.mark.parametrize(
    ("last", "count", "status", "failure"),
    [
        ((), 4, "All epochs are done.", ""),
        ((), 3, "Ended early, after 3 of 4 epochs.", ""),
        ((Stopping(),), 2, "Stopped on request after 2 of 4 epochs.", ""),
        ((Failed("The loss is <inf>."),), 1, "Failed after 1 of 4 epochs.", "The loss is <inf>."),
        ((Failed("The loss is inf."),), 0, "Failed after 0 of 4 epochs.", "The loss is inf."),
    ],
)
def test_at_the_end_it_says_how_the_run_ended(
    tmp_path: Path, written: list[ReportContent], last: tuple[Event, ...], count: int, status: str, failure: str
) -> None:
    sink = ReportFile(tmp_path, KNOWN)
    for epoch in EPOCHS[:count]:
        sent(sink, *validation(epoch))
    sent(sink, *last)
    sink.close()
    assert (written[-1].status, written[-1].failure) == (status, failure)
    text = (tmp_path / "report.html").read_text()
    assert status in text
    assert "<inf>" not in text


def test_the_scores_on_whole_images_are_added(tmp_path: Path, written: list[ReportContent]) -> None:
    sink = ReportFile(tmp_path, KNOWN)
    sent(sink, *validation(EPOCHS[0]))
    sent(sink, Scored("validation", 7, 0.75, 0.5, 0.625, [0.5, None, 0.1]), Quantized(0.5, 0.48, 9, True))
    sink.close()
    assert written[-1].class_columns == {"IoU, whole validation": [0.5, None, 0.1]}
    figures = {figure.name: (figure.value, figure.note) for figure in written[-1].figures}
    assert figures["mIOU, whole validation"] == (0.5, "best model, 7 images; 1 absent of 3 classes as 0")
    assert figures["mIOU, whole validation, present"] == (0.625, "best model, 7 images; annotated classes")
    assert figures["mIOU in int8"] == (0.48, "0.5000 in f32; kept")


def test_after_a_restart_it_has_all_epochs_and_the_images_of_the_latest(
    tmp_path: Path, written: list[ReportContent]
) -> None:
    """Those of the best epoch are gone with the process that validated it."""
    sink = ReportFile(tmp_path, KNOWN, keep_earlier=True)
    sent(sink, Resumed(tuple(EPOCHS[:2])))
    sent(sink, *validation(EPOCHS[2]))
    (content,) = written
    assert len(content.epochs) == 3
    assert shown(content) == (2, {"of epoch 2"})
    assert content.measured_on == "epoch 3, on the validation crops"
    sent(sink, *validation(EPOCHS[3]))
    assert shown(written[-1]) == (3, {"of epoch 3"})


def test_a_restart_that_adds_nothing_keeps_what_is_there_or_else_writes_the_curves(
    tmp_path: Path, written: list[ReportContent]
) -> None:
    (tmp_path / "report.html").write_text("of before")
    sink = ReportFile(tmp_path, KNOWN, keep_earlier=True)
    sent(sink, Resumed(tuple(EPOCHS[:2])), Stopping())
    sink.close()
    assert (tmp_path / "report.html").read_text() == "of before"
    (tmp_path / "report.html").unlink()
    sink.close()
    assert len(written[-1].epochs) == 2
    assert (tmp_path / "report.html").exists()


def test_another_process_completes_the_report_with_the_images_of_the_first(
    tmp_path: Path, written: list[ReportContent]
) -> None:
    """As where several ranks train: rank 0 shows the validations, and the process of `train` the final scores."""
    kept = tmp_path / "kept.npz"
    first = ReportFile(tmp_path, KNOWN, shown=kept)
    for epoch in EPOCHS[:3]:
        sent(first, *validation(epoch))
    first.close()
    second = ReportFile(tmp_path, KNOWN, keep_earlier=True, shown=kept)
    sent(second, Resumed(tuple(EPOCHS[:3])), Stopping())
    sent(second, Scored("validation", 7, 0.75, 0.5, 0.625, [0.5, None, 0.1]))
    second.close()
    before, after = written[-3], written[-1]
    assert shown(before) == shown(after) == (1, {"of epoch 1"})
    assert after.measured_on == before.measured_on
    for one, other in zip(before.samples, after.samples, strict=True):
        for sample, again in zip(one.samples, other.samples, strict=True):
            assert sample.wrong == again.wrong
            np.testing.assert_array_equal(sample.predicted, again.predicted)
            np.testing.assert_array_equal(sample.image, again.image)
    assert after.status == "Stopped on request after 3 of 4 epochs."
    assert after.class_columns


def test_that_of_an_earlier_run_stays_until_an_epoch_has_ended_or_is_removed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("earlier")
    sink = ReportFile(tmp_path, KNOWN, keep_earlier=True)
    sent(sink, *validation(EPOCHS[0])[:-1], Failed("lost"))
    sink.close()
    assert path.read_text() == "earlier"
    sent(sink, EPOCHS[0])
    assert path.read_text() != "earlier"
    ReportFile(tmp_path, KNOWN)
    assert not path.exists()


def test_all_of_a_large_training_is_written(tmp_path: Path) -> None:
    known = dataclasses.replace(KNOWN, planned=300, classes=made_classes(150))
    sink = ReportFile(tmp_path, known)
    *before, last = made_epochs(300, 150)
    sent(sink, Resumed(tuple(before)), last.trained, Counted(299, made_matrix(150)), last.validated, last)
    assert 100_000 < (tmp_path / "report.html").stat().st_size < 1_000_000
