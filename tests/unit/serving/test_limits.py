from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from semseg.errors import UserError
from semseg.serving import limits
from semseg.serving.limits import cores_of_a_worker, within_limits
from semseg.serving.settings import Settings

ANY = resource.RLIM_INFINITY
Machine = Callable[..., list[tuple[int, int]]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Gives the machine limits of files (soft, hard) and of threads; returns the limits of files that are set later."""

    def machine(files: tuple[int, int] = (ANY, ANY), threads: int | None = None) -> list[tuple[int, int]]:
        set_limits: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda kind: files)
        monkeypatch.setattr(resource, "setrlimit", lambda kind, new: set_limits.append(new))
        monkeypatch.setattr(limits, "free_threads", lambda: threads)
        return set_limits

    return machine


def settings(connections: int = 256, workers: int = 1) -> Settings:
    return Settings(Path("/nowhere"), max_connections=connections, workers=workers, threads=2)


@pytest.mark.parametrize(
    ("files", "threads", "workers", "connections", "raised"),
    [
        ((ANY, ANY), None, 1, 256, []),
        ((576, 576), 276, 1, 256, []),  # just enough
        ((575, ANY), None, 1, 256, [(576, ANY)]),
        ((100, 4096), None, 1, 256, [(576, 4096)]),
        ((100, 264), None, 64, 100, [(264, 264)]),  # files are per worker
        ((264, 264), None, 1, 100, [(264, 264)]),
        ((ANY, ANY), 275, 1, 255, []),
        ((ANY, ANY), 276, 2, 118, []),  # threads are shared by the workers
        ((264, 264), 60, 1, 40, [(264, 264)]),
        ((80, 80), 28, 1, 8, [(80, 80)]),
    ],
)
def test_there_are_as_many_connections_as_files_and_threads_suffice_for(
    machine: Machine,
    files: tuple[int, int],
    threads: int | None,
    workers: int,
    connections: int,
    raised: list[tuple[int, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_limits = machine(files, threads)
    with caplog.at_level(logging.WARNING):
        assert within_limits(settings(workers=workers)) == settings(connections, workers)
    assert set_limits == raised
    if connections == 256:
        assert not caplog.messages
    else:
        (message,) = caplog.messages
        assert message.startswith(f"SEMSEG_MAX_CONNECTIONS is {connections} instead of 256, because of the limit of ")


@pytest.mark.parametrize(
    ("files", "threads", "words"),
    [((79, 79), None, "ulimit -n"), ((10, 10), None, "for 0 clients"), ((ANY, ANY), 27, "processes and threads")],
)
def test_too_few_connections_are_the_user_s_error(
    machine: Machine, files: tuple[int, int], threads: int | None, words: str
) -> None:
    machine(files, threads)
    with pytest.raises(UserError, match=words) as caught:
        within_limits(settings())
    assert "--pids-limit" in caught.value.hint


def test_workers_share_the_cores_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "usable_cores", lambda: 7)
    assert cores_of_a_worker(Settings(Path("/nowhere"), workers=2)) == 3
    assert cores_of_a_worker(Settings(Path("/nowhere"), workers=8)) == 1
    assert cores_of_a_worker(Settings(Path("/nowhere"), workers=2, threads=5)) == 5
