from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client import values

from semseg.artifact.model_dir import ModelDescription
from semseg.errors import UserError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.serving import metrics
from semseg.serving.metrics import Metrics, count_in_slot
from semseg.serving.request_record import RequestRecord
from semseg.serving.shared_counts import FILE_BYTES, SharedCounts, shared_counts
from semseg.types import Classes

PATHS = ("/ping", "/invocations", "/execution-parameters", "/info", "/metrics", "/openapi.json", "/other")
STAGES = ("receive", "wait", "decode", "network", "encode", "send")
MODEL = ModelDescription(
    by_name("deeplab", NETWORKS), BACKBONES[1], 150, 480, True, Path("/nowhere/model_best.params"), Classes.unknown(150)
)
STATUSES = [200, 204, *(status for status in HTTPStatus if status >= 400)]


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedCounts]:
    """The counts of two workers; this process plays one or the other."""
    counts = SharedCounts(tmp_path, 2)
    monkeypatch.setenv(metrics.DIRECTORY, str(counts.path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # comes back in the end
    yield counts
    counts.remove()


def worker_in(slot: int) -> Metrics:
    count_in_slot(slot)
    return Metrics()


def sizes(folder: Path) -> set[tuple[int, int]]:
    """The length of each file, and the bytes that are allocated for it on disk."""
    return {(file.stat().st_size, 512 * file.stat().st_blocks) for file in folder.iterdir()}


def test_files_have_their_full_size_beforehand(counts: SharedCounts) -> None:
    """A mapped file that had to grow, or had holes, could end the process on a full disk."""
    before = sizes(counts.path)
    assert len(list(counts.path.iterdir())) == 8
    assert {size for size, _ in before} == {FILE_BYTES}
    assert all(occupied >= FILE_BYTES for _, occupied in before)
    worker = worker_in(0)
    for path in PATHS:
        for status in STATUSES:
            record = RequestRecord(path, "", stages=dict.fromkeys(STAGES, 1.0), size=(2**20, 2**20))
            record.end(status, path != "/other", worker, "none")
    assert b'path="/invocations",status="503"} 1.0' in worker.text(MODEL)
    assert sizes(counts.path) == before


def test_a_new_worker_in_a_slot_continues_its_counts_with_its_own_gauges(counts: SharedCounts) -> None:
    first, second = worker_in(0), worker_in(1)
    for worker, requests, waiting in ((first, 3, 5), (second, 4, 7)):
        worker.requests.labels("/ping", 200).inc(requests)
        worker.queued.set(waiting)
    assert {b'semseg_requests_total{path="/ping",status="200"} 7.0', b"semseg_queue 12.0"} <= set(lines(second))
    counts.forget(0)  # it has ended
    assert {b'semseg_requests_total{path="/ping",status="200"} 7.0', b"semseg_queue 7.0"} <= set(lines(second))
    counts.prepare(0)
    successor = worker_in(0)
    successor.requests.labels("/ping", 200).inc()
    successor.queued.set(1)
    assert {b'semseg_requests_total{path="/ping",status="200"} 8.0', b"semseg_queue 8.0"} <= set(lines(second))
    assert len(list(counts.path.iterdir())) == 8


def lines(worker: Metrics) -> list[bytes]:
    return worker.text(None).splitlines()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder behave as if on a full disk, on which only empty files can be created."""
    real = os.posix_fallocate

    def fill(folder: Path) -> None:
        def refuse(file: int, start: int, size: int) -> None:
            if Path(f"/proc/self/fd/{file}").readlink().is_relative_to(folder):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file, start, size)

        monkeypatch.setattr(os, "posix_fallocate", refuse)

    return fill


def test_the_first_folder_with_room_is_taken(tmp_path: Path, full: Callable[[Path], None]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    full(first)
    counts = shared_counts(2, (tmp_path / "absent", first, second))
    assert counts.path.parent == second
    assert not list(first.iterdir())
    counts.remove()
    assert not list(second.iterdir())


def test_without_room_it_is_said_where_and_how_much(tmp_path: Path, full: Callable[[Path], None]) -> None:
    full(tmp_path)
    with pytest.raises(UserError, match=r"524,288 bytes.*No such file.*No space left on device") as caught:
        shared_counts(2, (tmp_path / "absent", tmp_path))
    assert "SAGEMAKER_MODEL_SERVER_WORKERS=1" in caught.value.hint
    assert not list(tmp_path.iterdir())


HOLD = """
import os, sys
from pathlib import Path
from semseg.serving.shared_counts import SharedCounts
from semseg.types import Classes
print(SharedCounts(Path(sys.argv[1]), 1).path, flush=True)
if os.fork():
    os._exit(0)  # as if killed; the child keeps the lock
sys.stdin.read()
os._exit(0)
"""


def test_what_a_killed_server_left_is_removed_but_not_what_one_uses_or_is_none(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder, link, other = tmp_path / "shm", tmp_path / "shm/semseg-metrics-link", tmp_path / "shm/other"
    for path in (elsewhere, folder, other):
        path.mkdir()
    (elsewhere / "counter_0.db").touch()
    link.symlink_to(elsewhere)
    (folder / "semseg-metrics-file").touch()
    (folder / "semseg-metrics-writable").mkdir()
    (folder / "semseg-metrics-writable").chmod(0o777)
    strangers = set(folder.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        left = Path(server.stdout.readline().strip())
        assert server.wait(60) == 0
        shared_counts(1, (folder,)).remove()
        assert set(folder.iterdir()) == strangers | {left}
        server.communicate(timeout=60)  # the child ends, and soon the folder is not locked any more
    for _ in range(10_000):
        if not left.exists():
            break
        shared_counts(1, (folder,)).remove()
    assert set(folder.iterdir()) == strangers
    assert (elsewhere / "counter_0.db").exists()
