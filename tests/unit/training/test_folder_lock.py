from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semseg.errors import JobFolderError, UserError
from semseg.training.folder_lock import LOCK, locked

HOLD = """if True:
    import sys
    from pathlib import Path
    from semseg.training.folder_lock import locked

    with locked(Path(sys.argv[1]), "--job"):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_a_folder_is_one_process_s_until_that_dies(tmp_path: Path) -> None:
    folder, link = tmp_path / "new/job", tmp_path / "link"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        link.symlink_to(folder)
        for name in (folder, link):
            with (
                pytest.raises(
                    JobFolderError, match=rf"^{name} is in use by another training \(process {other.pid}\)\."
                ),
                locked(name, "--job"),
            ):
                pytest.fail("it is held")
        other.kill()
        other.communicate(timeout=60)
    with locked(link, "--job"):
        assert (folder / LOCK).read_text() == str(os.getpid())
    with locked(folder, "--job"):
        pass


def test_it_is_free_again_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path, "--job"):
        raise KeyError
    with (
        locked(tmp_path, "--job"),
        pytest.raises(JobFolderError, match="name another folder with --checkpoints"),
        locked(tmp_path, "--checkpoints"),
    ):
        pytest.fail("it is held")


def test_who_holds_it_is_named_only_if_that_is_a_number(tmp_path: Path) -> None:
    with locked(tmp_path, "--job"):
        (tmp_path / LOCK).write_bytes(b"\xff7\n")
        with pytest.raises(JobFolderError, match=r"is in use by another training\. Wait"), locked(tmp_path, "--job"):
            pytest.fail("it is held")


def test_where_there_are_no_locks_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some network file systems have no locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path, "--job"):
        pass
    assert f"{tmp_path} cannot be locked (No locks available): make sure that no other training uses it." in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc"), tmp_path / ("a" * 300)):
        with (
            pytest.raises(UserError, match=rf"{str(folder)[:300]} cannot be used: .*\. Name another with --job\."),
            locked(folder, "--job"),
        ):
            pytest.fail("it cannot be used")


def test_a_link_in_the_lock_s_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("mine")
    (tmp_path / LOCK).symlink_to(victim)
    with pytest.raises(UserError, match="cannot be used"), locked(tmp_path, "--job"):
        pytest.fail("it cannot be used")
    assert victim.read_text() == "mine"
