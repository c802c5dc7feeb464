from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import networks
from semseg.errors import ArtifactError
from semseg.types import Arrays


def test_building_prints_nothing(mx: Any, capfd: pytest.CaptureFixture[str]) -> None:
    networks.build("psp", "resnet-50", 3, mx.cpu())
    assert capfd.readouterr() == ("", "")


@pytest.mark.req("R8")
def test_equal_seeds_give_equal_networks(mx: Any) -> None:
    def build(seed: int) -> dict[str, Any]:
        mx.random.seed(seed)
        model = networks.build("fcn", "resnet-50", 3, mx.cpu())
        return {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}

    first, second, third = build(1), build(1), build(2)
    assert all((first[name] == second[name]).all() for name in first)
    assert (first["conv1.0.weight"] != third["conv1.0.weight"]).any()
    assert (first["head.block.0.weight"] != third["head.block.0.weight"]).any()


def test_arrays_of_other_names_or_shapes_change_nothing(model: Any) -> None:
    targets = networks.parameters(model)
    arrays: Arrays = {name: np.full(target.shape, 7, np.float32) for name, target in targets.items()}
    del arrays["bn1.gamma"]
    arrays["surprise"] = np.zeros(3)
    arrays["head.block.4.weight"] = np.zeros((5, 512, 1, 1))
    before = targets["layer1.0.conv1.weight"].data().asnumpy()
    with pytest.raises(ArtifactError) as caught:
        networks.assign(targets, arrays, "model_best.params")
    assert caught.value.message == (
        "model_best.params does not fit the network: bn1.gamma is missing, head.block.4.weight has shape "
        "(5, 512, 1, 1) instead of (3, 512, 1, 1), surprise is unknown."
    )
    np.testing.assert_array_equal(targets["layer1.0.conv1.weight"].data().asnumpy(), before)


def test_a_long_list_of_faults_is_cut(model: Any) -> None:
    with pytest.raises(ArtifactError, match=r"\d+ more\.$") as caught:
        networks.assign(networks.parameters(model), {}, "model_best.params")
    assert len(str(caught.value)) < 500


def test_arrays_of_other_precision_are_converted(model: Any) -> None:
    targets = networks.parameters(model)
    arrays = {name: np.full(target.shape, 0.5, np.float16) for name, target in targets.items()}
    networks.assign(targets, arrays, "f")
    assert targets["bn1.gamma"].data().dtype == np.float32
    assert (targets["head.block.4.weight"].data().asnumpy() == 0.5).all()
