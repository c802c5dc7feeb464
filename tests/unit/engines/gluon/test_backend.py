from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from untrained import initial_arrays

from semseg.engines.gluon.backend import load_backend
from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import parameter_table
from semseg.types import Arrays


@pytest.mark.req("R10")
def test_any_number_of_images_of_any_size_with_the_auxiliary_heads_parameters_or_without(mx: Any) -> None:
    arrays = initial_arrays("fcn", "resnet-50", 3)
    without = {name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}
    first, second = (load_backend(NETWORKS[0], BACKBONES[0], 3, given, "f", mx.cpu()) for given in (arrays, without))
    for count, height, width in ((1, 1, 1), (2, 8, 9), (1, 40, 17)):
        images = np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)
        logits = first.logits(images)
        assert logits.shape == (count, 3, -(-height // 8), -(-width // 8))
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()
        np.testing.assert_array_equal(second.logits(images), logits)


def test_a_file_of_another_network_is_an_error(mx: Any) -> None:
    table = parameter_table(NETWORKS[0], BACKBONES[0], 3)
    arrays: Arrays = {name: np.broadcast_to(np.float32(0), parameter.shape) for name, parameter in table.items()}
    with pytest.raises(ArtifactError, match=r"f does not fit the network: head\.aspp.* is missing"):
        load_backend(by_name("deeplab", NETWORKS), BACKBONES[0], 3, arrays, "f", mx.cpu())
