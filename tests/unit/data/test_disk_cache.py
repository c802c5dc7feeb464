from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from semseg.data.disk_cache import DiskCache


@pytest.fixture
def cache(temporary: Path) -> Iterator[DiskCache]:
    cache = DiskCache()
    yield cache
    cache.close()


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["bucket/a b.jpg", "../a", "/etc/hostname", "x" * 1000, "\n", ""])
def test_what_was_put_is_there_under_any_name(cache: DiskCache, temporary: Path, name: str) -> None:
    assert cache.get(name) is None
    cache.put(name, b"bytes")
    cache.put(f"{name}.", b"")
    assert cache.get(name) == b"bytes"
    assert cache.get(f"{name}.") == b""
    assert len(files(temporary)) == 2


def test_it_makes_nothing_before_it_is_used_and_leaves_nothing(cache: DiskCache, temporary: Path) -> None:
    assert not list(temporary.iterdir())
    cache.put("a", b"bytes")
    cache.close()
    assert not list(temporary.iterdir())
    assert cache.get("a") is None


def test_half_of_the_free_space_is_taken_by_what_comes_first(
    cache: DiskCache, temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3998))
    for name in ("a", "b", "c"):
        cache.put(name, name.encode() * 999)
    assert [bool(cache.get(name)) for name in ("a", "b", "c")] == [True, True, False]
    for _ in range(2):
        cache.put("d", b"dd")
    assert cache.get("d") is None
    assert caplog.messages == [
        "No more files are cached in the temporary directory (half of the free space is used): the rest is "
        "fetched again each time"
    ]


def test_a_full_disk_ends_the_keeping_only(cache: DiskCache, temporary: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.put("small", b"bytes")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        for name in ("a", "b"):
            cache.put(name, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [cache.get(name) for name in ("small", "a", "b")] == [b"bytes", None, None]
    assert len(files(temporary)) == 1
    assert caplog.messages == [
        "No more files are cached in the temporary directory (File too large): the rest is fetched again each time"
    ]


def test_without_a_temporary_directory_nothing_is_kept(
    cache: DiskCache, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    temporary.rmdir()
    for name in ("a", "b"):
        cache.put(name, b"bytes")
        assert cache.get(name) is None
    assert len(caplog.messages) == 1


def test_a_cache_whose_folder_was_removed_is_empty(cache: DiskCache, temporary: Path) -> None:
    cache.put("a", b"bytes")
    for directory in temporary.iterdir():
        shutil.rmtree(directory)
    assert cache.get("a") is None
