from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from semseg import files
from semseg.errors import ArtifactError, DiskFullError, FormatError
from semseg.files import (
    flush_to_disk,
    map_file,
    naming_file,
    replacing,
    require_file,
    require_writable,
    scratch_folder,
    sha256,
)


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileNotFoundError):
        sha256(tmp_path / "b")


def test_a_file_is_replaced_whole_with_the_mode_of_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_names_the_file_not_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "absent/parameters"
    with pytest.raises(FileNotFoundError) as caught, replacing(path) as temporary:
        temporary.write_text("new")
    assert caught.value.filename == str(path)


def test_neither_a_pipe_nor_a_device_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        path = tmp_path / name
        with pytest.raises(OSError, match="Is a device or a pipe, not a file") as caught, replacing(path) as temporary:
            temporary.write_text("new")
        assert caught.value.filename == str(path)
        assert not path.is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_with_the_folder_and_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    path.write_text("old")

    def fill() -> None:
        with replacing(path, tmp_path / "temporary") as temporary:
            temporary.symlink_to("/dev/full")  # the disk says what a full one says
            temporary.write_text("new")

    with pytest.raises(DiskFullError, match=f"The disk is full: no space is left in {tmp_path}.*larger volume"):
        fill()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_on_the_disk_before_it_takes_the_name_and_the_name_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "parameters", list[tuple[Path, bool]]()

    def note(descriptor: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert flushed == [(temporary, False), (tmp_path, True)]


def test_what_is_not_there_cannot_be_flushed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        flush_to_disk(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_a_mapped_file_has_the_bytes_of_the_file_even_when_it_is_removed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    mapped = map_file(path)
    path.unlink()
    assert mapped == content
    assert mapped.readonly


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    for path, fault in (
        (tmp_path / "absent", "is not there"),
        (tmp_path / "fifo", "is not a file"),
        (tmp_path, "is not a file"),
    ):
        with pytest.raises(FormatError, match=f"^{fault}$"):
            require_file(path)
        with pytest.raises(FormatError, match=f"^{fault}$"):
            map_file(path)


def test_a_fault_becomes_an_error_that_names_the_file_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\n#quality_metric"
    with pytest.raises(ArtifactError) as caught, naming_file(path, ArtifactError, "Copy it again."):
        raise FormatError("is damaged")
    assert caught.value.message.endswith(r"a\n#quality_metric' is damaged.")
    assert caught.value.message.isprintable()
    assert caught.value.hint == "Copy it again."
    unread = r"^'.*a\\n#quality_metric' cannot be read: No such file or directory\.$"
    with pytest.raises(ArtifactError, match=unread), naming_file(path, ArtifactError):
        sha256(path)


def test_a_file_may_have_the_longest_name_and_its_neighbours_are_written_at_the_same_time(tmp_path: Path) -> None:
    """The temporary names, which are longer, do not collide."""
    one, other = (tmp_path / f"{'ä' * 125}{number:03}.a" for number in range(2))
    assert len(one.name.encode()) == 255
    with replacing(one) as first, replacing(other) as second:
        first.write_text("one")
        second.write_text("other")
    assert (one.read_text(), other.read_text()) == ("one", "other")
    assert sorted(tmp_path.iterdir()) == [one, other]


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "parameters"
    require_writable(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    require_writable(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named_beforehand(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, error in [
        (tmp_path, IsADirectoryError),
        (tmp_path / "absent/file", FileNotFoundError),
        (tmp_path / "pipe/file", NotADirectoryError),
        (tmp_path / "pipe", OSError),
    ]:
        with pytest.raises(error) as caught:
            require_writable(path)
        assert caught.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_temporary_folder_is_this_users_own_and_removed_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a/b").mkdir(parents=True)
        (folder / "a/file").touch()
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_forked_leaves_the_temporary_folder_to_the_other(tmp_path: Path) -> None:
    """It ends as gunicorn's workers do, by SystemExit."""
    code = (
        "import os, pathlib, sys\nfrom semseg.files import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    if child := os.fork():\n        print(os.waitpid(child, 0)[1], folder.is_dir())\n"
        "    else:\n        sys.exit()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 True\n", "")
    assert not list(tmp_path.iterdir())


def test_a_signal_at_any_moment_leaves_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler exits before any line of what makes and removes the folder, and the exit comes after."""
    at_exit: list[Callable[[], object]] = []
    monkeypatch.setattr(files, "atexit", SimpleNamespace(register=at_exit.append, unregister=at_exit.remove))

    def use(moment: int) -> bool:
        """Uses a folder; returns whether it was interrupted, before this line."""
        lines = count()

        def interrupt(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename != files.__file__:
                return None
            if event == "line" and next(lines) == moment:
                raise SystemExit
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            with scratch_folder(tmp_path) as folder:
                (folder / "file").touch()
        except SystemExit:
            return True
        finally:
            sys.settrace(before)
        return False

    moments = 0
    while use(moments):
        for remove in at_exit:
            remove()
        assert not list(tmp_path.iterdir())
        at_exit.clear()
        moments += 1
    assert moments > 5
    assert not at_exit
