from __future__ import annotations

import pytest

from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network
from semseg.networks.training_memory import training_bytes


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_memory_grows_with_pixels_and_half_precision_saves_less_than_half(network: Network, backbone: Backbone) -> None:
    def needed(images: int, crop: int, *, half: bool = False) -> int:
        return training_bytes(network, backbone, 21, images, crop, half=half)

    fixed = needed(0, 240)
    assert needed(4, 240) - fixed == pytest.approx(4 * (needed(1, 240) - fixed), abs=4)
    assert needed(1, 480) - fixed == pytest.approx(needed(4, 240) - fixed, abs=4)
    assert (needed(4, 240) - fixed) / 2 < needed(4, 240, half=True) - fixed < needed(4, 240) - fixed


def test_of_fcn_on_resnet_50_it_is_what_was_measured() -> None:
    """6,560 bytes for a pixel, and four copies of 33 million parameters in float32."""
    fixed, one = (training_bytes(NETWORKS[0], BACKBONES[0], 21, images, 160) for images in (0, 1))
    assert (one - fixed) / 160**2 == pytest.approx(6560, rel=0.05)
    assert fixed == pytest.approx(4 * 4 * 35e6, rel=0.1)
