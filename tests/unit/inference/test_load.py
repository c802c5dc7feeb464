from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semseg.artifact.model_dir import describe, write_class_names
from semseg.engines.gluon import networks, runtime
from semseg.errors import ArtifactError
from semseg.inference.load import load_predictor


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FCN of random weights for 3 classes, without hyperparams.json."""
    directory = tmp_path_factory.mktemp("model")
    networks.build("fcn", "resnet-50", 3, runtime.load().cpu()).save_parameters(str(directory / "model_best.params"))
    return directory


@pytest.mark.req("R56")
def test_a_model_directory_becomes_a_predictor(model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = load_predictor(model_dir)
    assert model.predictor.num_classes == 3
    probabilities = model.predictor.predict(np.zeros((20, 31, 3), np.uint8)).probabilities()
    assert probabilities.shape == (3, 20, 31)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert caplog.messages == [
        "Number of GPUs being used: 0",
        f"Loading weights from {model_dir / 'model_best.params'}",
    ]


def test_what_the_directory_says_of_the_model_comes_with_it(model_dir: Path, tmp_path: Path) -> None:
    for source in model_dir.iterdir():
        (tmp_path / source.name).symlink_to(source)
    write_class_names(tmp_path, ["sky", "road", "tree"])
    assert load_predictor(tmp_path).description == describe(tmp_path)
    assert load_predictor(tmp_path).description.class_names == ("sky", "road", "tree")
    assert load_predictor(model_dir).description.class_names is None


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9)])
def test_the_smallest_pictures_are_segmented(model_dir: Path, size: tuple[int, int]) -> None:
    assert load_predictor(model_dir).predictor.predict(np.zeros((*size, 3), np.uint8)).labels().shape == size


def test_an_empty_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=tmp_path.name):
        load_predictor(tmp_path)


def test_importing_the_server_does_not_import_mxnet() -> None:
    script = "import sys, semseg.serving.server; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
