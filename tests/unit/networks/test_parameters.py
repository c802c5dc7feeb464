from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network
from semseg.networks.parameters import (
    Initializer,
    Parameter,
    backbone_table,
    initial_values,
    parameter_table,
    require_fit,
    unusable_parameters,
    without_auxiliary,
)
from semseg.types import Arrays

EACH = pytest.mark.parametrize(
    ("network", "backbone"),
    list(product(NETWORKS, BACKBONES)),
    ids=[f"{network.name}-{backbone.name}" for network, backbone in product(NETWORKS, BACKBONES)],
)


@EACH
def test_the_heads_learn_ten_times_as_fast_and_running_statistics_not_at_all(
    network: Network, backbone: Backbone
) -> None:
    encoder = backbone_table(backbone)
    for name, parameter in parameter_table(network, backbone, 4).items():
        assert parameter.rate == (1 if name in encoder else 10)
        assert parameter.trained != name.endswith((".running_mean", ".running_var"))


@EACH
def test_the_auxiliary_head_is_left_out_when_it_is_not_wanted(network: Network, backbone: Backbone) -> None:
    whole = parameter_table(network, backbone, 4)
    least = parameter_table(network, backbone, 4, auxiliary=False)
    assert least == {name: parameter for name, parameter in whole.items() if not name.startswith("auxlayer.")}
    assert (least == whole) == (network.auxiliary is None)
    classifiers = {f"{network.classifier}.weight", "auxlayer.block.4.weight"} & whole.keys()
    assert {whole[name].shape[0] for name in classifiers} == {4}
    assert backbone_table(backbone).items() <= least.items()


@EACH
def test_initial_values_follow_the_law_of_each_parameter(network: Network, backbone: Backbone) -> None:
    """Moments and ranges of each array, within six standard errors."""
    encoder = backbone_table(backbone)
    for name, values in initial_values(parameter_table(network, backbone, 21), seed=3).items():
        assert values.dtype == np.float32
        if not name.endswith(".weight"):
            assert (values == name.endswith((".gamma", ".running_var"))).all(), name
            continue
        outputs, inputs, height, width = values.shape
        xavier = (6 / ((outputs + inputs) * height * width)) ** 0.5
        limit = xavier if name in encoder else 0.07
        deviation = limit / 3**0.5
        chance = 6 / values.size**0.5
        assert limit * (1 - 25 / values.size) < np.abs(values).max() <= limit * (1 + 1e-6), name
        assert abs(values.mean()) < chance * deviation, name
        assert abs(values.std() / deviation - 1) < chance * 0.2**0.5, name


@pytest.mark.req("R8")
def test_equal_seeds_give_equal_values_and_others_other_ones() -> None:
    table = {str(number): Parameter((4, 3, 3, 3), Initializer.XAVIER, 1, True) for number in range(3)}
    first, again, other = (initial_values(table, seed) for seed in (1, 1, 2))
    assert first.keys() == table.keys()
    for name in table:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all()
    assert all((first[one] != first[next_one]).all() for one, next_one in pairwise(table))


TABLE = {
    "c.weight": Parameter((4, 3, 1, 1), Initializer.XAVIER, 1, True),
    "c.bias": Parameter((4,), Initializer.ZEROS, 1, True),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_the_tables_names_and_shapes_fit(dtype: type) -> None:
    require_fit(TABLE, {name: array.astype(dtype) for name, array in initial_values(TABLE, 0).items()}, "f")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"c.bias": None}, "c.bias is missing"),
        ({"d.weight": np.ones(4, np.float32)}, "d.weight is unknown"),
        ({"auxlayer.\nx": np.ones(1, np.float32)}, r"'auxlayer.\nx' is unknown"),
        ({"c.bias": np.ones(3, np.float32)}, "c.bias has shape (3,) instead of (4,)"),
        ({"c.weight": np.ones((4, 3, 3, 3), np.float32)}, "c.weight has shape (4, 3, 3, 3) instead of (4, 3, 1, 1)"),
        ({"c.bias": np.ones(4, np.int64)}, "c.bias has the dtype int64, which is not floating-point"),
        ({"c.bias": None, "a": np.ones(1)}, "a is unknown, c.bias is missing"),
        (
            {letter: np.ones(1) for letter in "abcdefg"},
            "a is unknown, b is unknown, c is unknown, d is unknown, e is unknown and 2 more",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(change: dict[str, Any], says: str) -> None:
    given = initial_values(TABLE, 0) | change
    with pytest.raises(ArtifactError) as caught:
        require_fit(TABLE, {name: array for name, array in given.items() if array is not None}, "a/file")
    assert caught.value.message == f"a/file does not fit the network: {says}."


def test_what_the_auxiliary_head_has_can_be_left_out() -> None:
    arrays: Arrays = {"auxlayer.block.0.weight": np.ones(1), "head.auxlayer.": np.ones(1)}
    assert without_auxiliary(arrays).keys() == {"head.auxlayer."}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("conv1.weight", np.array([1, np.nan], np.float32)),
        ("conv1.weight", np.array([np.inf, 1], np.float32)),
        ("conv1.weight", np.array([-np.inf, np.nan], np.float16)),
        ("conv1.weight", np.array([1, -1e39], np.float64)),  # exceeds float32
        ("bn1.running_mean", np.array([np.nan, np.nan], np.float32)),
        ("bn1.running_var", np.array([1, -0.5], np.float32)),
        ("bn1.running_var", np.array([1, np.nan], np.float32)),
    ],
)
def test_values_that_no_network_computes_with_are_found(name: str, values: NDArray[Any]) -> None:
    sound = {"conv2.weight": np.array([[-3e38, 3e38]], np.float32), "bn2.running_var": np.array([0, -1e-9], np.float32)}
    assert unusable_parameters(sound | {"int": np.array([-1]), "one": np.array([1.0])}) == []
    assert unusable_parameters(sound | {name: values}) == [name]
