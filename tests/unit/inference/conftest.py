from __future__ import annotations

from pathlib import Path

import pytest

from semseg.engines.gluon import networks, runtime


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FCN of random weights for 3 classes, without hyperparams.json."""
    directory = tmp_path_factory.mktemp("model")
    networks.build("fcn", "resnet-50", 3, runtime.load().cpu()).save_parameters(str(directory / "model_best.params"))
    return directory


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A directory of the test's own with the same parameters."""
    directory = tmp_path / "copy"
    directory.mkdir()
    (directory / "model_best.params").symlink_to(model_dir / "model_best.params")
    return directory
