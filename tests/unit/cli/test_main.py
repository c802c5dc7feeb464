from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from semseg.cli import main, serve, train
from semseg.version import __version__


def test_it_reports_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "command",
    ["train", "check", "pipe", "fetch-weights", "import-weights", "serve", "export", "quantize", "demo", "overlay"],
)
def test_every_command_is_listed_and_describes_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 0
    listed, described = capsys.readouterr().out.split(f"usage: semseg {command} ")
    assert re.search(rf"^    {command}\s", listed, re.MULTILINE)
    assert "--help" in described


@pytest.mark.parametrize("command", [train, serve])
def test_the_containers_commands_are_those_of_semseg(
    command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/command", "--help"])
    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: semseg {command.__name__} ")


def test_no_command_waits_for_the_imports_of_another() -> None:
    """Only what declares the options is imported before a command runs, and none of that imports numpy."""
    code = "import semseg.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)
    modules = done.stdout.split()
    assert {name.split(".")[1] for name in modules if name.startswith("semseg.")} <= {
        "cli",
        "errors",
        "networks",
        "sagemaker",
        "version",
    }
    assert "numpy" not in modules


@pytest.mark.parametrize("argv", [[], ["trane"], ["train", "--fast"]])
def test_an_unknown_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: semseg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("overlay", "absent.jpg", "mask.png", "out.png"), "absent.jpg cannot be read: No such file or directory."),
        (("demo", "/proc/shapes"), "[Errno 2] No such file or directory: '/proc/shapes"),
    ],
)
def test_a_file_that_is_not_there_or_cannot_be_written_is_named(
    command: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(f"semseg: {said}")
