from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    [
        "train",
        "check",
        "pipe",
        "fetch-weights",
        "import-weights",
        "serve",
        "info",
        "predict",
        "evaluate",
        "export",
        "quantize",
        "demo",
        "browse",
        "overlay",
        "completion",
    ],
)
def test_every_command_is_listed_and_describes_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 0
    listed, described = capsys.readouterr().out.split(f"usage: semseg {command} ")
    assert re.search(rf"^    {command}\s", listed, re.MULTILINE)
    assert "--help" in described
    text = described.split("\n\n")[1]
    assert text[0].isupper()
    assert text.endswith(".")


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


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], "semseg: There is no command 'trian'. Did you mean train?\nSee semseg --help.\n"),
        (["train", "--fast"], "semseg train: There is no option --fast. Did you mean --test?\n"),
        (["train", "--crop_sise=3"], "semseg train: There is no option --crop-sise. Did you mean --crop-size?\n"),
        (["train", "--zzzzz"], "semseg train: There is no option --zzzzz.\n"),
        (["train", "--crop", "3"], "semseg train: There is no option --crop."),
        (["overlay", "a", "b", "c", "d"], "semseg overlay: 'd' is one word too many.\nSee semseg overlay --help.\n"),
        (["export", "a", "--format", "onx"], "'onx' is not valid: it must be onnx or mxnet. Did you mean onnx?\n"),
        (["pipe", "a", "b", "--channel", "test"], "'test' is not valid: it must be train or validation.\n"),
        (["overlay", "a"], "semseg overlay: the following arguments are required: mask, out\n"),
        (["--"], "semseg: There is no command '--'.\n"),
        (["--train", "x"], "semseg: There is no command '--train'. Did you mean train?\n"),
        (["--versoin"], "semseg: There is no command '--versoin'. Did you mean --version?\n"),
        (["check", "--", "--train", "x"], "semseg check: '--train' is one word too many.\n"),
        (["check", "-"], "semseg check: '-' is one word too many.\n"),
        (["info", ""], "semseg info: argument model: it is empty: give a file or a folder.\n"),
        (["overlay", "a", "b", "c", "--palette=ade"], "it must be voc, ade20k or cityscapes. Did you mean ade20k?\n"),
        ([], "semseg: the following arguments are required: COMMAND\n"),
    ],
)
def test_an_unknown_command_line_is_refused_with_the_nearest_word(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-a.png", "b.png", "c.png"], "'-a.png' looks like an option: write ./-a.png if it is the file.\n"),
        (["a", "b", "c", "--palette", "-L"], "write --palette=-L if it is the value of --palette.\n"),
        (["-z.png", "b.png"], "semseg overlay: the following arguments are required: mask, out\n"),
        (["a", "b", "c", "-palette=voc"], "There is no option -palette. Did you mean --palette?\n"),
    ],
)
def test_a_word_that_begins_with_a_dash_is_shown_how_to_write(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "-a.png").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["overlay", *words])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--"], ["--", "--"]])
def test_dashes_that_nothing_follows_are_no_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash", *words]) == 0
    assert "complete -o default" in capsys.readouterr().out


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "fetch-weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("overlay", "absent.jpg", "mask.png", "out.png"), "absent.jpg cannot be read: No such file or directory."),
        (("demo", "/proc/shapes"), "/proc/shapes: No such file or directory."),
    ],
)
def test_a_file_that_is_not_there_or_cannot_be_written_is_named(
    command: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(f"semseg: {said}")


def test_an_interrupted_command_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("semseg.offline.overlay.write_overlay", interrupted)
    assert main(["overlay", "a.jpg", "a.png", "out.png"]) == 130


def test_a_reader_of_the_output_may_end_first(tmp_path: Path) -> None:
    """As with `| head`: no traceback, neither from the command nor when Python flushes at its end."""
    code = "import sys, semseg.cli as cli; cli.COMMANDS = (add,); sys.exit(cli.main(['many']))"
    add = (
        "def run(_):\n    for _ in range(100_000): print('a line')\n    return 0\n"
        "def add(commands): commands.add_parser('many').set_defaults(run=run)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", add + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize(("seconds", "end"), [(3600, "done\n"), (0, "")], ids=["soon", "later"])
def test_a_second_signal_ends_what_the_first_has_begun_to_end_only_later(
    number: signal.Signals, seconds: float, end: str
) -> None:
    code = (
        "import sys, time, semseg.cli as cli\n"
        "def run(_):\n"
        "    try:\n        print('running', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('ending', flush=True)\n        sys.stdin.readline()\n        print('done')\n"
        "def add(commands): commands.add_parser('wait').set_defaults(run=run)\n"
        f"cli.COMMANDS, cli._ENDING_SECONDS = (add,), {seconds}\n"
        "sys.exit(cli.main(['wait']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(number)
        if seconds:
            process.stdin.write("go on\n")
            process.stdin.flush()
        assert process.stdout.read() == end
        assert process.wait(timeout=60) == 128 + number


def test_a_misspelled_option_is_named_rather_than_the_one_that_it_stands_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "job", "--images", "a", "--annotation=b"])
    assert "There is no option --annotation. Did you mean --annotations?" in capsys.readouterr().err
