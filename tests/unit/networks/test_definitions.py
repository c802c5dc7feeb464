from __future__ import annotations

import subprocess
import sys

import pytest

from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, by_name, titles

ENGINES = {"mxnet", "openvino", "torch"}
FIRST = [by_name(name, NETWORKS) for name in ("fcn", "psp", "deeplab")]


@pytest.mark.parametrize("declared", [NETWORKS, BACKBONES], ids=["networks", "backbones"])
def test_names_and_titles_are_given_once_and_fit_a_command_line(declared: tuple[Network | Backbone, ...]) -> None:
    for words in ([one.name for one in declared], [one.title for one in declared]):
        assert len(set(words)) == len(words)
        assert all(word.isprintable() and word.strip() == word != "" for word in words)
    assert all(" " not in one.name and one.name == one.name.lower() for one in declared)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_every_network_says_what_a_pixel_costs_the_engines_that_run_it(network: Network) -> None:
    """OpenVINO runs them all, from ONNX; MXNet runs those that GluonCV has."""
    assert {"openvino"} <= network.bytes_per_pixel.keys() <= ENGINES
    assert min(network.bytes_per_pixel.values()) > 0
    assert network.stride > 0


def test_a_network_is_found_by_its_name() -> None:
    assert [by_name(one.name, NETWORKS) for one in NETWORKS] == list(NETWORKS)
    with pytest.raises(KeyError, match="unet"):
        by_name("unet", NETWORKS)


def test_titles_make_a_sentence() -> None:
    assert titles(FIRST) == "FCN, PSP or DeepLabV3"
    assert titles(FIRST[:2], "and") == "FCN and PSP"
    assert titles(BACKBONES[:1]) == "ResNet-50"


def test_definitions_need_no_numpy() -> None:
    program = (
        "import sys, semseg.networks.definitions, semseg.sagemaker.hyperparameters; sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
