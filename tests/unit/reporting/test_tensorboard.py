from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_report import made_epochs
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event as Entry
from tensorboardX.proto.event_pb2 import SessionLog

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event, Resumed, Scored, Step
from semseg.reporting.tensorboard import TensorBoard

EPOCHS = made_epochs(3, 2)
TITLES = ["sky", "person (on foot)"]


def masked(data: bytes) -> int:
    """The checksum of a TFRecord."""
    crc: int = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def entries(folder: Path) -> Iterator[Entry]:
    """Reads the TFRecords of all files back, and checks their checksums."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            assert struct.unpack("<I", data[8:12]) == (masked(data[:8]),)
            record, data = data[12 : 12 + size], data[12 + size :]
            assert struct.unpack("<I", data[:4]) == (masked(record),)
            data = data[4:]
            yield Entry.FromString(record)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The values by step of each tag."""
    found: dict[str, dict[int, float]] = {}
    for entry in entries(folder):
        for value in entry.summary.value:
            assert entry.step not in found.setdefault(value.tag, {}), value.tag
            found[value.tag][entry.step] = value.simple_value
    return found


def events_of(ended: EpochEnded, updates: int = 2) -> list[Event]:
    number = ended.trained.epoch
    steps = [Step(number, "training", n, updates, 8, 0.1 / (number + n), 1.5 * n) for n in range(1, updates + 1)]
    return [*steps, ended.trained, Step(number, "validation", 1, 1, 8, None, None), ended.validated, ended]


def epoch(number: int, loss: float = 0.5) -> EpochEnded:
    """An epoch of two updates."""
    trained = EpochTrained(number, 2, 1.25, 0.01, 9.0, 0.0)
    return EpochEnded(trained, EpochValidated(number, loss, 0.75, 0.5, None, [0.5, None], 8.0), 3, True)


def test_the_numbers_of_updates_and_epochs_can_be_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "output/data/tensorboard"
    sink = TensorBoard(folder, TITLES)
    for event in [*events_of(epoch(0)), *events_of(epoch(1)), Scored("test", 7, 0.625, 0.25, None, [0.25, None])]:
        sink(event)
    sink.close()
    assert scalars(folder) == {
        "update/loss": {1: 1.5, 2: 3.0, 3: 1.5, 4: 3.0},
        "update/learning_rate": pytest.approx({1: 0.1, 2: 0.05, 3: 0.05, 4: 0.1 / 3}),
        "train/loss": {0: 1.25, 1: 1.25},
        "train/learning_rate": pytest.approx({0: 0.01, 1: 0.01}),
        "train/throughput": {0: 9.0, 1: 9.0},
        "validation/loss": {0: 0.5, 1: 0.5},
        "validation/pixel_accuracy": {0: 0.75, 1: 0.75},
        "validation/mIOU": {0: 0.5, 1: 0.5},
        "validation/throughput": {0: 8.0, 1: 8.0},
        "IOU/0_sky": {0: 0.5, 1: 0.5},
        "whole_test/mIOU": {0: 0.25},
        "whole_test/pixel_accuracy": {0: 0.625},
    }
    first = next(entries(folder))
    assert first.file_version == "brain.Event:2"


def test_a_class_is_a_tag_whatever_its_name(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, TITLES)
    sink(EPOCHS[0])
    sink.close()
    assert {tag for tag in scalars(tmp_path) if tag.startswith("IOU")} == {"IOU/0_sky", "IOU/1_person__on_foot_"}


def test_a_loss_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, TITLES)
    sink(epoch(0, loss=math.nan))
    sink.close()
    assert "validation/loss" not in scalars(tmp_path)


def test_an_epoch_is_on_the_disk_when_it_has_ended(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, TITLES)
    for event in events_of(epoch(0)):
        sink(event)
    assert scalars(tmp_path)["train/loss"] == {0: 1.25}
    sink.close()


def test_a_run_that_resumes_keeps_its_files_and_marks_where_it_goes_on(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path, TITLES)
    for event in [*events_of(epoch(0)), *events_of(epoch(1))[:1]]:
        sink(event)
    sink.close()
    (before,) = tmp_path.iterdir()
    before.rename(before.with_name("events.out.tfevents.0.before"))  # this process might take the same name
    resumed = TensorBoard(tmp_path, TITLES, resumes=True)
    for event in [Resumed((epoch(0),)), *events_of(epoch(1))]:
        resumed(event)
    resumed.close()
    starts = [entry.step for entry in entries(tmp_path) if entry.session_log.status == SessionLog.START]
    assert starts == [3]  # TensorBoard drops the third update of before
    values = [value for entry in entries(tmp_path) for value in entry.summary.value]
    assert len([value for value in values if value.tag == "train/loss"]) == 2


def test_without_its_files_a_run_that_resumes_writes_the_epochs_of_before(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path / "new", TITLES, resumes=True)
    for event in [Resumed((epoch(0),)), *events_of(epoch(1))]:
        sink(event)
    sink.close()
    found = scalars(tmp_path / "new")
    assert found["train/loss"] == {0: 1.25, 1: 1.25}
    assert found["update/loss"] == {3: 1.5, 4: 3.0}


def test_nothing_is_written_until_an_epoch_has_ended_where_an_earlier_run_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    sink = TensorBoard(folder, TITLES, held=True)
    for event in events_of(epoch(0))[:-1]:
        sink(event)
    assert not folder.exists()
    sink(epoch(0))
    assert scalars(folder)["update/loss"] == {1: 1.5, 2: 3.0}
    sink.close()
    TensorBoard(tmp_path / "other", TITLES, held=True).close()
    assert not (tmp_path / "other").exists()


def test_a_full_disk_is_an_error_of_the_sink_and_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semseg.reporting.tensorboard._new_name", lambda: "events")
    (tmp_path / "events").symlink_to("/dev/full")
    full = TensorBoard(tmp_path, TITLES)
    with pytest.raises(OSError, match="No space left"):
        full(epoch(0))
    with pytest.raises(OSError, match="No space left"):
        full.close()
