from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from untrained import initial_arrays

from semseg.engines.gluon.backend import load_backend
from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.types import Arrays


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return initial_arrays("fcn", "resnet-50", 3)


@pytest.mark.req("R10")
def test_logits_are_an_eighth_of_any_image(arrays: Arrays, mx: Any) -> None:
    backend = load_backend(NETWORKS[0], BACKBONES[0], 3, arrays, "f", mx.cpu())
    for height, width in ((1, 1), (8, 9), (40, 17)):
        logits = backend.logits(np.ones((2, 3, height, width), np.float32))
        assert logits.shape == (2, 3, -(-height // 8), -(-width // 8))
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
