from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from thread_group import ThreadGroup, as_ranks

from semseg.engines.group import ALONE, Group, Membership
from semseg.errors import DataError, Stopped
from semseg.sagemaker.hosts import Hosts
from semseg.training import rank
from semseg.training.failures import Failure
from semseg.training.feed import Feed


class Task:
    """What a rank needs to name itself."""

    membership = Membership(0, 2, "127.0.0.1", 0, None, "lo", 1.0)
    hosts = Hosts("algo-1")
    settings = SimpleNamespace(engine="torch", precision_dtype="float32")
    gpu = keep_earlier = False
    report = weights = None
    name = "Rank 0 of 2 (on algo-1)"
    scratch = Path()


def trainer_in(groups: Sequence[Group] | Mapping[int, Group]) -> Any:
    """What trains a rank, and joins its group of these."""
    engine = SimpleNamespace(join=lambda membership, _: groups[membership.rank])
    return SimpleNamespace(engine=engine, device=None)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [(DataError("a.png is damaged."), rank.FAILED, 1), (ValueError("odd"), rank.FAILED, 2), (Stopped(), "stopped", 0)],
)
def test_what_ends_a_rank_is_reported_before_it_leaves_the_group(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, code: int
) -> None:
    """Whose other members fail then; and an error of leaving is not reported in its place."""
    received, reports = Pipe(duplex=False)
    known_when_leaving: list[bool] = []

    def train(_task: Any, _listener: Any, _stop: Any, resources: ExitStack, _feed: Any) -> Any:
        def leave() -> None:
            known_when_leaving.append(received.poll())
            raise RuntimeError("cannot leave")

        resources.callback(leave)
        raise error

    monkeypatch.setattr(rank, "_train", train)
    task: Any = Task()
    with received, reports:
        assert rank._run(task, None, threading.Event(), reports, Feed(("Rank 0",))) == code
        assert known_when_leaving == [True]
        found, value = json.loads(received.recv_bytes())
        assert found == kind
        if kind == rank.FAILED:
            assert str(error) in Failure.from_json(value).message
        assert not received.poll()


def test_a_rank_has_ended_well_once_it_has_left_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written last, such as the report, may fail."""
    received, reports = Pipe(duplex=False)

    def train(_task: Any, _listener: Any, _stop: Any, resources: ExitStack, _feed: Any) -> tuple[str, bool]:
        def leave() -> None:
            raise OSError("the disk is full")

        resources.callback(leave)
        return "{}", False

    monkeypatch.setattr(rank, "_train", train)
    task: Any = Task()
    with received, reports:
        assert rank._run(task, None, threading.Event(), reports, Feed(("Rank 0",))) == 2
        found, value = json.loads(received.recv_bytes())
        assert found == rank.FAILED
        assert "the disk is full" in Failure.from_json(value).message


def test_what_a_rank_keeps_for_a_while_goes_with_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A rank that is killed removes nothing, such as its cache of objects in S3."""
    kept: list[str] = []

    def reopen(*_: Any) -> Any:
        kept.append(tempfile.mkdtemp())
        raise DataError("a.png is damaged.")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(rank, "_reopen", reopen)
    monkeypatch.setattr(rank, "rank_trainer", lambda *_: trainer_in([ALONE]))
    task: Any = Task()
    task.scratch = tmp_path
    with ExitStack() as resources, pytest.raises(DataError):
        rank._train(task, None, threading.Event(), resources, Feed(("Rank 0",)))
    assert Path(kept[0]).parent == tmp_path


def trained(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> list[str]:
    """Two ranks, each in a thread, that are to be stopped; the texts with which they are."""
    groups: dict[int, ThreadGroup] = {}
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(rank, "rank_trainer", lambda *_: trainer_in(groups))
    monkeypatch.setattr(rank, "assemble", lambda _, __, group, ___: group)
    monkeypatch.setattr(rank, "save_last", lambda *_: None)
    with ExitStack() as resources:

        def work(group: ThreadGroup) -> str:
            groups[group.rank] = group
            task: Any = Task()
            task.membership, task.scratch = replace(Task.membership, rank=group.rank), scratch
            with pytest.raises(Stopped) as caught:
                rank._train(task, None, threading.Event(), resources, Feed(("Rank 0", "Rank 1")))
            return str(caught.value)

        return as_ranks(2, work)


def test_a_stop_while_one_rank_lists_its_files_stops_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is noticed between two lines of a manifest, so that others may have listed theirs and wait for this rank."""

    def reopen(task: Any, *_: Any) -> Any:
        if task.membership.rank:
            raise Stopped
        return SimpleNamespace(checkpoints=None)

    monkeypatch.setattr(rank, "_reopen", reopen)
    monkeypatch.setattr(rank, "fit", lambda group, *_: group.barrier())
    assert trained(monkeypatch, tmp_path) == ["", ""]


def test_ranks_end_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in every step, one that hangs is noticed by those that wait for it. The first one says what is kept."""

    def fit(group: Group, *_: Any) -> Any:
        if group.rank == 0:
            raise Stopped("The earlier model is kept.")
        return SimpleNamespace(to_json=lambda: "{}")

    monkeypatch.setattr(rank, "_reopen", lambda *_: SimpleNamespace(checkpoints=None))
    monkeypatch.setattr(rank, "fit", fit)
    assert trained(monkeypatch, tmp_path) == ["The earlier model is kept.", ""]
