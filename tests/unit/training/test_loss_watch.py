from __future__ import annotations

import math

import numpy as np
import pytest

from semseg.errors import DivergedError
from semseg.training.loss_watch import require_finite, require_finite_loss, stagnation_warning


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_an_error_with_its_place_files_and_causes(loss: float) -> None:
    names = [f"train/{number}.jpg" for number in range(20)]
    with pytest.raises(DivergedError) as raised:
        require_finite_loss(loss, 3, 17, names, 0.1)
    text = str(raised.value)
    assert f"The loss is {loss} after 3 epochs and 17 iterations" in text
    assert "train/0.jpg, train/1.jpg" in text
    assert "train/15.jpg and 4 more." in text
    assert "was 0.1." in text
    assert "_gradient_clip" in text
    assert len(text) < 1000  # as much as the platform shows


def test_a_number_is_fine() -> None:
    require_finite_loss(1e30, 0, 1, [], 0.1)


def test_parameters_that_are_no_numbers_are_named() -> None:
    sound = {"a": np.ones((2, 3), np.float32), "count": np.array([3])}
    require_finite(sound)
    with pytest.raises(DivergedError, match=r"diverged: b, c of its network have values .* _gradient_clip"):
        require_finite(sound | {"b": np.array([1, np.inf]), "c": np.array([np.nan])})


@pytest.mark.parametrize(
    ("losses", "warns"),
    [
        ([1.0], False),
        ([1.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([1.0, 1.2, 0.995], True),
        ([0.0, 0.0, 0.0], True),
        ([1.0, 0.98, 1.0], False),
        ([1.0, 1.0, 1.0, 1.0], False),  # once is enough
    ],
)
def test_a_loss_that_does_not_move_in_three_epochs_is_warned_about(losses: list[float], warns: bool) -> None:
    assert (stagnation_warning(losses) is not None) == warns
