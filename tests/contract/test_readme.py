"""The README keeps its word: its blocks run, its tables are those of the code.

`scripts/demo` is run by test_demo.py; `scripts/test` is what runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import botocore.session
import numpy as np
import pytest
from PIL import Image

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.media_types import PROTOBUF, SHARE
from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import ENVELOPE
from semseg.data.shapes import draw
from semseg.inference.predictor import LogitsPrediction
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.sagemaker.hyperparameters import rules
from semseg.serving.answers import OFFERS, Segmented, answer_to
from semseg.serving.response_bodies import response_body
from semseg.serving.settings import VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ON_SAGEMAKER = re.search(r"^## On SageMaker\n.*?(?=^## )", README, re.MULTILINE | re.DOTALL)
"""Its blocks are run in tests/sdk. Those called shell are run in tests/image."""


def blocks(language: str) -> list[str]:
    assert ON_SAGEMAKER
    return re.findall(rf"^```{language}\n(.*?)^```$", README.replace(ON_SAGEMAKER[0], ""), re.MULTILINE | re.DOTALL)


@pytest.mark.req("R10", "R11", "R12")
def test_the_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    """Train, load in plain GluonCV, serve, ask for a mask. After one epoch int8 need not be as good."""
    train, pipe, serve, quantize, export = blocks("sh")
    (load,) = blocks("python")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    quantize = f"{quantize.rstrip()} || test $? = 1"
    script = f"set -e\n{train}\n{pipe}\npython -W ignore - <<'PYTHON'\n{load}\nPYTHON\n{serve}\n{quantize}\n{export}"
    environ = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Image.open(tmp_path / "mask.png") as mask, Image.open(tmp_path / "overlay.png") as overlay:
        assert mask.mode == "L"
        assert mask.size == overlay.size == (128, 96)
    assert (tmp_path / "job/model/model.onnx").stat().st_size > 100_000_000
    assert (tmp_path / "network-0000.params").stat().st_size > 100_000_000


def test_the_sizes_of_pictures_that_the_platform_s_limits_allow_are_right() -> None:
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
    model = ModelDescription(NETWORKS[0], BACKBONES[0], 21, None, True, Path("/nowhere"), None)
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
