from __future__ import annotations

import pytest
from flop import inference_flop, training_flop

from semseg.networks.definitions import BACKBONES, NETWORKS, by_name


@pytest.mark.parametrize(
    ("algorithm", "backbone", "side", "training", "inference"),
    [
        ("fcn", "resnet-50", 480, 818, 256),
        ("fcn", "resnet-50", 240, 204, 64),
        ("fcn", "resnet-101", 480, 1227, 392),
        ("psp", "resnet-50", 480, 1022, 324),
        ("deeplab", "resnet-50", 480, 951, 300),
    ],
)
def test_the_operations_of_the_convolutions(
    algorithm: str, backbone: str, side: int, training: int, inference: int
) -> None:
    """In units of 1e9, with 21 classes; counted by hand from GluonCV's networks."""
    shape = by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), 21, side, side
    assert round(training_flop(*shape) / 1e9) == training
    assert round(inference_flop(*shape) / 1e9) == inference
