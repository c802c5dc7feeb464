"""Runs the README's shell blocks on the container image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from readme import README

ROOT = Path(__file__).parents[2]
RUN, PUSH = re.findall(r"^```shell\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CALLS = "calls"

Script = Callable[[str, dict[str, str]], None]


def write_command(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def run_block(tmp_path: Path) -> Script:
    """Runs a block with some commands replaced by given scripts, which may record their calls in the file CALLS."""

    def run(block: str, commands: dict[str, str]) -> None:
        (tmp_path / "bin").mkdir()
        for name, script in commands.items():
            write_command(tmp_path / "bin" / name, script)
        environ = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / CALLS)}
        command = ["bash", "-ec", f"set -o pipefail\n{block}"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.req("R10", "R12")
def test_the_image_trains_serves_and_answers(run_block: Script, tmp_path: Path, image: str) -> None:
    engine = shutil.which(os.environ.get("DOCKER", "docker"))
    try:
        run_block(RUN.replace("semseg:cpu", image), {"docker": f'exec {engine} "$@"'})
    finally:
        subprocess.run([str(engine), "rm", "--force", "semseg"], capture_output=True)
    with Image.open(tmp_path / "mask.png") as mask:
        assert (mask.mode, mask.size) == ("L", (128, 96))
    assert (tmp_path / "probabilities.rec").stat().st_size > 4 * 4 * 128 * 96


def test_it_is_pushed_to_a_registry_of_the_account(run_block: Script, tmp_path: Path) -> None:
    """Checks the calls of `aws` and `docker`, without an account."""
    record = 'echo "$0 $*" | sed "s,.*/bin/,," >> $CALLS'
    run_block(PUSH, {"aws": f"{record}; echo password", "docker": f"{record}; case $1 in login) cat >> $CALLS; esac"})
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert sorted((tmp_path / CALLS).read_text().splitlines()) == sorted(
        [
            "aws ecr create-repository --repository-name semseg",
            "aws ecr get-login-password",
            f"docker login --username AWS --password-stdin {registry}",
            "password",
            f"docker tag semseg:cpu {registry}/semseg:cpu",
            f"docker push {registry}/semseg:cpu",
        ]
    )
