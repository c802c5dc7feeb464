from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.codecs.params import read_params
from semseg.engines.gluon.backend import load_backend
from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.types import Arrays


@pytest.fixture
def arrays(model: Any, tmp_path: Path) -> Arrays:
    model.save_parameters(str(tmp_path / "model_best.params"))
    return read_params(tmp_path / "model_best.params")


@pytest.mark.req("R10")
@pytest.mark.parametrize("size", [(1, 1), (8, 9), (40, 17)])
def test_logits_are_an_eighth_of_any_picture(arrays: Arrays, mx: Any, size: tuple[int, int]) -> None:
    backend = load_backend(NETWORKS[0], BACKBONES[0], 3, arrays, "f", mx.cpu())
    logits = backend.logits(np.ones((2, 3, *size), np.float32))
    assert logits.shape == (2, 3, -(-size[0] // 8), -(-size[1] // 8))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_a_file_without_auxiliary_head_serves_the_same(arrays: Arrays, mx: Any) -> None:
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 24)).astype(np.float32)
    without = {name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}
    whole, part = (
        load_backend(NETWORKS[0], BACKBONES[0], 3, given, "f", mx.cpu()).logits(images) for given in (arrays, without)
    )
    np.testing.assert_array_equal(whole, part)


def test_a_file_of_another_network_is_an_error(arrays: Arrays, mx: Any) -> None:
    with pytest.raises(ArtifactError, match=r"f does not fit the network: head\.aspp.* is missing"):
        load_backend(by_name("deeplab", NETWORKS), BACKBONES[0], 3, arrays, "f", mx.cpu())
