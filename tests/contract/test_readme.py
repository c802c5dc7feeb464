"""The README and the pages of the rooms keep their word: their blocks run, their tables are those of the code.

`scripts/demo` is run by test_demo.py, `scripts/test` runs this; test_pages.py follows the links.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

import botocore.session
import numpy as np
import pytest
import small_train
from PIL import Image
from readme import README, ROOT, blocks

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.colors import color_name
from semseg.codecs.media_types import PROTOBUF, SHARE
from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import ENVELOPE
from semseg.data.shapes import CLASSES, COLORS, draw
from semseg.inference.predictor import LogitsPrediction
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.sagemaker.hyperparameters import rules
from semseg.serving.answers import OFFERS, Segmented, answer_to
from semseg.serving.response_bodies import response_body
from semseg.serving.settings import VARIABLES
from semseg.types import Classes

COMMANDS = {"semseg": "", "train": "train", "serve": "serve"}
"""The installed commands: the first arguments that each stands for."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a `.venv` in which the commands compute a small network instead of FCN."""
    environment = tmp_path / ".venv/bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text(f'PATH="$PWD/.venv/bin:{Path(sys.executable).parent}:$PATH"\n')
    for command, arguments in COMMANDS.items():
        words = shlex.join([sys.executable, small_train.__file__, *arguments.split()])
        (environment / command).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (environment / command).chmod(0o755)
    return tmp_path


@pytest.mark.req("R10", "R11")
def test_the_blocks_run_one_after_the_other(folder: Path) -> None:
    """Train, evaluate, predict and serve; train from pipes, each of the others, the same in Python, quantize.

    test_demo.py runs others on FCN.
    """
    first, pipe, serve, predict, evaluate, quantize, _ = blocks("sh")
    (door,) = (block for block in blocks("python") if "semseg.load" in block)
    support = str(Path(small_train.__file__).parent)
    module = folder / ".venv/bin/python"  # which semseg.train starts with `-m semseg`
    module.write_text('#!/bin/sh\nshift 2\nexec semseg "$@"\n')
    module.chmod(0o755)
    small = f"import sys; sys.path.append({support!r}); sys.executable = {str(module)!r}\n"
    small += "from small_learner import small_training\n"
    (folder / "door.py").write_text(f"{small}with small_training():\n{textwrap.indent(door, '    ')}")
    python = f"{shlex.quote(sys.executable)} door.py"
    script = f"set -e\n{first}\n{pipe}\n{serve}\n{predict}\n{evaluate}\n{python}\n{quantize}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    with Image.open(folder / "mask.png") as mask, Image.open(folder / "overlay.png") as overlay:
        assert mask.mode == "L"
        assert mask.size == overlay.size == (128, 96)
    predicted = {path.name for path in (folder / "predicted").iterdir()}
    images = [path.stem for path in (folder / "shapes/validation").iterdir()]
    assert predicted == {f"{stem}{end}.png" for stem in images for end in ("", "_overlay")} | {"class_shares.csv"}
    assert len(list((folder / "evaluation/worst").iterdir())) == 12
    assert re.search(r"^\(96, 128\) 0\.\d+\n0\.\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +1 disc +\d", done.stdout, re.MULTILINE)  # of the check
    assert done.stdout.count("Training resizes images to a long side of 260 to 1040 pixels (base_size 520") == 5
    assert re.search(r"#final_metric\. host: \S+, validation IOU of disc: \S+ \.$", done.stdout, re.MULTILINE)
    assert json.loads((folder / "job/output/data/metrics.json").read_text())["classes"] == [*CLASSES]
    colors = {str(number): color_name(color) for number, color in enumerate(COLORS)}
    classes = json.loads((folder / "job/model/classes.json").read_text())
    assert classes == {"classes": [*CLASSES], "colors": colors}
    artifact = {"model_best.params", "model_algo-1", "model.onnx", "hyperparams.json", "README.md"}
    assert {path.name for path in (folder / "job/model").iterdir()} == artifact | {"model_int8.onnx", "classes.json"}
    assert {path.name for path in (folder / "next/model").iterdir()} == artifact
    assert {path.name for path in (folder / "job-python/model").iterdir()} == artifact | {"classes.json"}
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    left = {path.name for path in folder.iterdir()} - {".venv", "door.py"}
    assert {name for name in left if not any(fnmatch(name, pattern) for pattern in ignored)} == set()


def test_the_sizes_of_images_that_the_platform_s_limits_allow_are_right() -> None:
    """Each size is the largest square whose float32 probabilities of 21 classes, in a record, are within the limit."""
    rows = re.findall(r"^\| [^|]+ \| (\d+) MiB \| (\d+) x (\d+) pixels", README, re.MULTILINE)
    assert len(rows) == 5
    for limit, width, height in rows:
        assert width == height
        assert 84 * int(width) ** 2 + ENVELOPE <= int(limit) << 20 < 84 * (int(width) + 1) ** 2


def test_the_table_of_hyperparameters_is_complete() -> None:
    expected = ["| name | default | accepts | |", "|---|---|---|---|"]
    for rule in rules():
        default = rule.default if rule.default is not None else "required" if rule.required else ""
        accepts = re.sub(r"^(expects|accepts)( one of the following:)? ", "", rule.expects).replace("'", "")
        expected.append(f"| `{rule.name}` | {default} | {accepts} | {rule.doc} |")
    found = README[README.index(expected[0]) :].partition("\n\n")[0].split("\n")
    for found_line, expected_line in zip_longest(found, expected):
        assert found_line == expected_line


def test_the_table_of_answers_is_complete_and_right() -> None:
    """The bytes of arrays exactly, others roughly: of generated shapes, whose classes are in doubt only at edges."""
    model = ModelDescription(NETWORKS[0], BACKBONES[0], 21, None, True, Path("/nowhere"), Classes.unknown(21))
    rng = np.random.default_rng(0)
    image, labels = draw((480, 480), rng)
    logits = 6 * (labels[::8, ::8] == np.arange(21)[:, None, None]) + rng.normal(scale=0.3, size=(21, 60, 60))
    done = Segmented(image, LogitsPrediction(logits.astype(np.float32), 480, 480), model)
    rows = re.findall(r"^\| `(\w+/[^`]+)` \| .* \| (\d+) \| (\d*) ?\|$", README, re.MULTILINE)
    for accept, length, packed in rows:
        answer = answer_to(accept)
        assert answer.compressible == bool(packed), accept
        buffers = answer.encode(done)
        sent = total_bytes(buffers)
        assert sent == int(length) if answer.length else int(length) / 4 < sent < int(length) * 4, accept
        if packed:
            body, _ = response_body(buffers, gzip=True)
            assert int(packed) / 4 < sum(map(len, body)) < int(packed) * 4, accept
    parameters = [parameter for offer in OFFERS.values() for parameter in offer.parameters.values()]
    words = {word for parameter in parameters if parameter != SHARE for word in parameter.accepts.split("|")}
    unnamed = {word for word in words if not re.search(rf"[`=]{word}[`;]", README)}
    assert unnamed == {parameter.default for parameter in parameters if parameter.default}
    named = {(row[0].partition(";")[0], name) for row in rows for name in re.findall(r"(\w+)=", row[0])}
    offered = {(media_type, name) for media_type, offer in OFFERS.items() for name in offer.parameters}
    assert named == {(media_type, name) for media_type, name in offered if media_type != PROTOBUF}
    assert {row[0].partition(";")[0] for row in rows} == set(OFFERS) - {PROTOBUF}
    assert f"`{PROTOBUF}` is another name of the first type" in README


def test_the_table_of_variables_is_complete() -> None:
    for variable in VARIABLES:
        assert re.search(rf"^\| `{variable.name}` \| {variable.default} \|", README, re.MULTILINE), variable.name


@pytest.mark.req("R54", "R55", "R56")
@pytest.mark.parametrize("shape", ["TrainingInstanceType", "ProductionVariantInstanceType"])
def test_sagemaker_has_the_instances_of_the_table(shape: str) -> None:
    named = re.findall(r"`(ml\.\w+)`", "".join(re.findall(r"^\| `ml\..*$", README, re.MULTILINE)))
    assert set(named) >= {f"ml.{family}" for family in ("p2", "p3", "g4dn", "g5", "c5", "m5")}
    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    assert set(named) <= {name.rpartition(".")[0] for name in sagemaker.shape_for(shape).enum}
