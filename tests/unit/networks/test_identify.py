from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from semseg.errors import FormatError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, by_name, titles
from semseg.networks.identify import Identity, identify
from semseg.networks.parameters import parameter_table
from semseg.types import Arrays

FCN, PSP, DEEPLAB = (by_name(name, NETWORKS) for name in ("fcn", "psp", "deeplab"))
RESNET_50, RESNET_101 = (by_name(name, BACKBONES) for name in ("resnet-50", "resnet-101"))
CLASSIFIER = "head.block.4.weight"


def arrays_of(network: Network, backbone: Backbone, num_classes: int = 5, auxiliary: bool = True) -> Arrays:
    """Arrays with a network's names; only the classifier's has the right shape."""
    table = parameter_table(network, backbone, num_classes, auxiliary)
    name = f"{network.classifier}.weight"
    return {name: np.ones(1) for name in table} | {name: np.ones(table[name].shape)}


@pytest.mark.req("R10")
@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("num_classes", [2, 254])
@pytest.mark.parametrize(("network", "backbone"), list(product(NETWORKS, BACKBONES)))
def test_each_network_is_known_by_its_names(
    network: Network, backbone: Backbone, num_classes: int, auxiliary: bool
) -> None:
    arrays = arrays_of(network, backbone, num_classes, auxiliary)
    assert identify(arrays) == Identity(network, backbone, num_classes, auxiliary and network.auxiliary is not None)


@pytest.mark.parametrize(
    ("network", "backbone", "missing", "unknown", "says"),
    [
        (FCN, RESNET_50, ["bn1.beta"], [], "FCN on ResNet-50, the nearest network: bn1.beta is missing"),
        (PSP, RESNET_101, [], ["a\n"], r"PSP on ResNet-101, the nearest network: 'a\n' is unknown"),
        (DEEPLAB, RESNET_50, ["bn1.beta"], ["b"], "the nearest network: bn1.beta is missing, 'b' is unknown"),
        (DEEPLAB, RESNET_50, [], [*"fedcba"], "'a' is unknown, 'b' is unknown, 'c' is unknown, 'd' is unknown, 'e' "),
        (FCN, RESNET_50, [], ["x" * 300], f"the nearest network: '{'x' * 99} is unknown"),
        (FCN, RESNET_50, [CLASSIFIER], [], f"FCN on ResNet-50, the nearest network: {CLASSIFIER} is missing"),
    ],
)
def test_the_nearest_network_says_what_is_missing_or_unknown(
    network: Network, backbone: Backbone, missing: list[str], unknown: list[str], says: str
) -> None:
    arrays = arrays_of(network, backbone) | {name: np.ones(1) for name in unknown}
    with pytest.raises(FormatError) as caught:
        identify({name: array for name, array in arrays.items() if name not in missing})
    assert str(caught.value).startswith("does not hold ")
    assert says in str(caught.value)


@pytest.mark.parametrize("names", [[], ["fc.weight"], ["auxlayer.block.4.weight"], ["conv1.0.weight", CLASSIFIER]])
def test_other_arrays_are_an_error_that_lists_the_networks(names: list[str]) -> None:
    with pytest.raises(FormatError) as caught:
        identify({name: np.ones((5, 1, 1, 1)) for name in names})
    known = f"{titles(NETWORKS)} on {titles(BACKBONES)}"
    assert str(caught.value) == f"does not hold one of the networks known here: {known}"


@pytest.mark.parametrize("shape", [(), (5,), (5, 512)])
def test_a_classifier_of_another_form_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match=rf"has no 4-dimensional {CLASSIFIER}"):
        identify(arrays_of(FCN, RESNET_50) | {CLASSIFIER: np.ones(shape)})
