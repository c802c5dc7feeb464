"""The scripts of continuous integration, and what keeps a run of the tests from hanging."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NO_ENGINE = "#!/bin/sh\necho 'failed to start daemon: no cgroups'\nexit 1\n"
SILENT_ENGINE = "#!/bin/sh\necho 'starting up'\nexec sleep 300\n"


@pytest.mark.parametrize(
    ("engine", "log"), [(NO_ENGINE, "no cgroups"), (SILENT_ENGINE, "starting up")], ids=["ends", "silent"]
)
@pytest.mark.parametrize(("ci", "code", "verdict"), [("true", 1, "FAILED"), ("", 0, "SKIPPED")], ids=["CI", "local"])
def test_no_docker_engine_is_a_failure_in_ci_with_the_engine_s_log(
    tmp_path: Path, engine: str, log: str, ci: str, code: int, verdict: str
) -> None:
    absent = "#!/bin/sh\nexit 1\n"
    programs = {"docker": absent, "dockerd": engine, "iptables": absent, "mmdebstrap": absent}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CI": ci,
        "SEMSEG_DOCKER_WITHIN": "1",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [ROOT / ".ci/with-docker", "echo", "ran"], env=environ, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert log in done.stderr
    assert f"{verdict}: no Docker engine runs here" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(programs)


def test_a_test_that_hangs_ends_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(
        "import threading\nfrom concurrent.futures import ThreadPoolExecutor\n\n"
        "def test_hangs():\n    with ThreadPoolExecutor() as threads:\n        threads.submit(waits).result()\n\n"
        "def waits():\n    threading.Event().wait()\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-o", "faulthandler_timeout=1"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "in waits" in done.stderr
    assert "in test_hangs" in done.stderr


WRONG_IMPORTS = [
    ("networks", "from semseg.engines import protocols", "Imports point one way"),
    ("inference", "import mxnet", "MXNet and GluonCV are"),
    ("networks", "from gluoncv import model_zoo", "MXNet and GluonCV are"),
    ("inference", "import openvino", "OpenVINO is"),
    ("inference", "from semseg.engines.gluon import runtime", "Engines are named"),
    ("training", "import flask", "Flask, gunicorn and Prometheus are"),
    ("training", "from gunicorn.app.base import BaseApplication", "Flask, gunicorn and Prometheus are"),
    ("reporting", "import prometheus_client", "Flask, gunicorn and Prometheus are"),
    ("codecs", "from werkzeug.http import parse_accept_header", "Flask, gunicorn and Prometheus are"),
    ("artifact", "import boto3", "boto3 is"),
    ("artifact", "from botocore import exceptions", "boto3 is"),
    ("networks", "import onnx", "ONNX is"),
    ("exporting", "import onnxruntime", "ONNX Runtime is"),
    ("cli", "import semseg", "Only users import"),
    ("cli", "from semseg import __version__", "Only users import"),
    ("sagemaker", "import numpy", "The platform's contract and"),
    ("sagemaker", "from PIL import Image", "The platform's contract and"),
    ("sagemaker", "from semseg.types import Batch", "The platform's contract and"),
]
"""A package, an import that is not allowed in it, and the start of the violated contract's name."""


def test_an_import_in_the_wrong_package_fails_the_check(tmp_path: Path) -> None:
    """Also within a function, which puts it off. Each breaks one contract and no other."""
    package = tmp_path / "semseg"
    shutil.copytree(ROOT / "src/semseg", package, ignore=shutil.ignore_patterns("__pycache__"))
    for number, (package_name, statement, _) in enumerate(WRONG_IMPORTS):
        (package / package_name / f"odd{number}.py").write_text(f"def late() -> None:\n    {statement}\n")
    program = Path(sys.executable).with_name("lint-imports")
    command: list[str | Path] = [program, "--no-cache", "--config", ROOT / "pyproject.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    _, *headings_and_texts = re.split(r"^(.+)\n-+\n", done.stdout, flags=re.MULTILINE)
    sections = list(zip(headings_and_texts[::2], headings_and_texts[1::2], strict=True))
    for number, (package_name, statement, contract) in enumerate(WRONG_IMPORTS):
        broken = [heading for heading, text in sections if f"semseg.{package_name}.odd{number} -> " in text]
        assert [heading.startswith(contract) for heading in broken] == [True], (package_name, statement, broken)
