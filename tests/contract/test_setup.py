"""scripts/setup, with a Python and a pip that only record what they are asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from serve_process import wait_until

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
echo "$*" >> "$CALLS"
[ -z "${PYTHONPATH:-}" ] || echo "finds other packages" >> "$CALLS"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *--editable*) cat "$GO" ;;  # until the test closes it
    *torch==*) exit "$HAS_NO_CPU_BUILD" ;;
esac
"""
FLOCK = '#!/bin/sh\necho "waits" >> "$CALLS"\nexec "$FLOCK" "$@"\n'


class Machine:
    """A copy of what scripts/setup reads, and the programs that it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls, self.go = folder / "tree", folder / "calls", folder / "go"
        for name in ("scripts/setup", "docker/torch-requirements", "pyproject.toml", "tests/requirements.txt"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for file in (ROOT / "docker").glob("requirements-*.txt"):
            shutil.copy(file, self.folder / "docker")
        programs = folder / "bin"
        programs.mkdir()
        for name, script in {"python3.11": PYTHON, "python3.12": PYTHON, "flock": FLOCK}.items():
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        self.environ = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "GO": os.devnull,
            "FLOCK": str(shutil.which("flock")),
            "HAS_NO_CPU_BUILD": "0",
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        command = [str(self.folder / "scripts/setup"), *arguments]
        return subprocess.Popen(command, env=self.environ | environ, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, **environ: str) -> list[str]:
        """Runs it to its end; returns what it has asked of Python meanwhile."""
        self.calls.write_text("")
        _, log = (done := self.start(*arguments, **environ)).communicate(timeout=60)
        assert done.returncode == 0, log
        return self.called()

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "home", "packages"),
    [
        ((), ".venv", "cpu"),
        (("torch",), ".venv-torch", "numpy2"),
        (("both",), ".venv-both", "cpu"),
        (("3.12",), ".venv-3.12", "numpy2"),
    ],
)
def test_an_environment_is_made_once(machine: Machine, arguments: tuple[str, ...], home: str, packages: str) -> None:
    calls = machine.run(*arguments)
    assert f"-m venv {home}" in calls
    files = f"-r docker/requirements-{packages}.txt -r tests/requirements.txt"
    assert f"-m pip --quiet install --no-deps --require-hashes {files}" in calls
    assert machine.run(*arguments) == []
    with (machine.folder / "tests/requirements.txt").open("a") as file:
        file.write("\n")
    assert f"-m venv {home}" in machine.run(*arguments)


def test_packages_of_another_environment_are_not_taken_for_installed(machine: Machine) -> None:
    assert "finds other packages" not in machine.run(PYTHONPATH="/elsewhere")


@pytest.mark.parametrize(("exit_code", "build"), [("0", "cpu"), ("1", "cuda")])
def test_cuda_s_build_of_torch_is_installed_where_pip_finds_no_other(
    machine: Machine, exit_code: str, build: str
) -> None:
    install = "-m pip --quiet install --no-deps --require-hashes -r docker/requirements-torch-"
    for environment in ("torch", "both"):
        calls = machine.run(environment, HAS_NO_CPU_BUILD=exit_code)
        assert [call for call in calls if call.startswith(install)] == [f"{install}{build}.txt"]
    assert not [call for call in machine.run("3.12") if "torch" in call]


@pytest.mark.skipif(not shutil.which("flock"), reason="it does not wait where flock is missing")
def test_of_two_at_once_the_second_waits_and_finds_it_made(machine: Machine) -> None:
    machine.calls.touch()
    os.mkfifo(machine.go)
    hold = os.open(machine.go, os.O_RDWR)  # as a reader too, so that it does not wait for one
    first = machine.start(GO=str(machine.go))
    wait_until(lambda: any("--editable" in call for call in machine.called()))
    second = machine.start()
    wait_until(lambda: machine.called().count("waits") == 2)
    assert second.poll() is None
    os.close(hold)
    for process in (first, second):
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    assert machine.called().count("-m venv .venv") == 1


def test_another_environment_is_refused(machine: Machine) -> None:
    _, log = (done := machine.start("jax")).communicate(timeout=60)
    assert (done.returncode, log) == (2, "usage: scripts/setup [torch|both|3.12]\n")
