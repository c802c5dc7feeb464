from __future__ import annotations

import numpy as np
import pytest
import torch

from semseg.engines.torch.loss_scale import LossScale
from semseg.errors import ArtifactError


def factor(scale: LossScale) -> float:
    return float(scale.scaled(torch.ones(())))


def test_gradients_get_their_size_back() -> None:
    scale, gradients = LossScale(), [torch.tensor([3.0, -1.0]), torch.tensor(2.0)]
    scaled = [scale.scaled(gradient) for gradient in gradients]
    assert scale.restore_size(scaled)
    assert all(torch.equal(found, gradient) for found, gradient in zip(scaled, gradients, strict=True))


def test_the_scale_is_halved_by_each_overflow_and_doubled_after_2000_updates_without_one() -> None:
    scale = LossScale()
    first = factor(scale)
    assert first == 65536
    for value in (torch.inf, -torch.inf, torch.nan):
        before = factor(scale)
        assert not scale.restore_size([torch.zeros(3), torch.tensor([1.0, value])])
        assert factor(scale) == before / 2
    for _ in range(1999):
        assert scale.restore_size([torch.zeros(1)])
    assert factor(scale) == first / 8
    scale.restore_size([torch.zeros(1)])
    assert factor(scale) == first / 4


def test_it_goes_on_where_it_was() -> None:
    scale, other, fresh = LossScale(), LossScale(), LossScale()
    scale.restore_size([torch.tensor(torch.inf)])
    scale.restore_size([torch.zeros(1)])
    other.write(scale.read(), "a test")
    assert (
        other.read() == scale.read() == {"loss_scale/scale": np.array([32768.0]), "loss_scale/updates": np.array([1])}
    )
    other.write({}, "a test")
    assert other.read() == fresh.read()


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, 2.0**25])
def test_a_scale_that_it_cannot_have_had_is_damage(scale: float) -> None:
    with pytest.raises(ArtifactError, match=r"a\.params is damaged: loss_scale/scale is not one number"):
        LossScale().write({"loss_scale/scale": np.array([scale])}, "a.params")
    with pytest.raises(ArtifactError, match=r"a\.params is damaged: loss_scale/updates is not one number"):
        LossScale().write({"loss_scale/updates": np.array([2000])}, "a.params")


def test_it_is_not_halved_to_nothing() -> None:
    scale = LossScale()
    for _ in range(100):
        scale.restore_size([torch.tensor(torch.inf)])
    assert factor(scale) == 2.0**-24
