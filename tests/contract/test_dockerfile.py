"""What the Dockerfile says, where there is no Docker engine to build it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from semseg.version import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)


def stage(first_line: str) -> str:
    """All instructions of a stage."""
    (found,) = (text for text in STAGES if text.partition("\n")[0] == first_line)
    return found


def test_the_variants_for_gpus_ask_for_them_and_for_the_driver_s_libraries() -> None:
    """Without the first, NVIDIA's runtime lends no GPU; without the second, older ones give no libcuda."""
    assert "ENV NVIDIA_VISIBLE_DEVICES=all \\\n    NVIDIA_DRIVER_CAPABILITIES=compute,utility\n" in stage(
        "base AS base-gpu"
    )
    assert [text for text in STAGES if "NVIDIA_" in text] == [stage("base AS base-gpu")]
    assert {text.partition("\n")[0] for text in STAGES if " AS base-" in text} == {
        "base AS base-cpu",
        "base AS base-gpu",
        "base-gpu AS base-torch",
    }
    assert STAGES[-1].startswith("base-${VARIANT}\n")


def test_one_default_of_the_variant_holds_for_all_stages() -> None:
    assert re.findall(r"^ARG VARIANT.*", DOCKERFILE, re.MULTILINE) == ["ARG VARIANT=gpu", "ARG VARIANT", "ARG VARIANT"]
    assert "ARG VARIANT=gpu" in STAGES[0]
    for text in STAGES[1:]:
        body = text.partition("\n")[2]
        assert ("${VARIANT}" not in body) or body.index("ARG VARIANT\n") < body.index("${VARIANT}")


def test_the_image_and_the_wheel_are_of_the_version_that_the_code_says() -> None:
    """DOCKER=echo prints what Docker would be given."""
    done = subprocess.run(
        [ROOT / "scripts/build-image", "cpu"],
        env=os.environ | {"DOCKER": "echo"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f" --build-arg VERSION={__version__} " in done.stdout
    assert WheelBuilder(str(ROOT)).metadata.version == __version__
