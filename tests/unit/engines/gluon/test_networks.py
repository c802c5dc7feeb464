from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_networks import NOTHING, SINGLE

from semseg.engines.gluon import networks
from semseg.errors import ArtifactError, UserError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.types import Arrays


def test_building_prints_nothing(mx: Any, capfd: pytest.CaptureFixture[str]) -> None:
    networks.build(by_name("psp", NETWORKS), BACKBONES[0], 3, mx.cpu())
    assert capfd.readouterr() == ("", "")


def test_a_network_that_gluoncv_does_not_have_is_refused(mx: Any) -> None:
    with pytest.raises(UserError, match=r"MXNet does not compute Single on ResNet-50: GluonCV has no such network\."):
        networks.build(SINGLE, BACKBONES[0], 3, mx.cpu())
    with pytest.raises(UserError, match="MXNet does not compute FCN on Nothing"):
        networks.build(NETWORKS[0], NOTHING, 3, mx.cpu())


def test_arrays_of_other_names_or_shapes_change_nothing(model: Any) -> None:
    targets = networks.parameters(model)
    arrays: Arrays = {name: np.full(target.shape, 7, np.float32) for name, target in targets.items()}
    del arrays["bn1.gamma"]
    arrays["surprise"] = np.zeros(3)
    arrays["head.2.weight"] = np.zeros((5, 4, 1, 1))
    before = targets["layer1.weight"].data().asnumpy()
    with pytest.raises(ArtifactError) as caught:
        networks.assign(targets, arrays, "model_best.params")
    assert caught.value.message == (
        "model_best.params does not fit the network: bn1.gamma is missing, head.2.weight has shape "
        "(5, 4, 1, 1) instead of (3, 4, 1, 1), surprise is unknown."
    )
    np.testing.assert_array_equal(targets["layer1.weight"].data().asnumpy(), before)


def test_a_long_list_of_faults_is_cut(model: Any) -> None:
    with pytest.raises(ArtifactError, match=r"\d+ more\.$") as caught:
        networks.assign(networks.parameters(model), {}, "model_best.params")
    assert len(str(caught.value)) < 500


def test_arrays_of_other_precision_are_converted(model: Any) -> None:
    targets = networks.parameters(model)
    arrays = {name: np.full(target.shape, 0.5, np.float16) for name, target in targets.items()}
    networks.assign(targets, arrays, "f")
    assert targets["bn1.gamma"].data().dtype == np.float32
    assert (targets["head.2.weight"].data().asnumpy() == 0.5).all()
