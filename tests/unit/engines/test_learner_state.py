from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semseg.engines.learner_state import UPDATES, joined, parted, updates_of
from semseg.errors import ArtifactError


def test_a_state_is_parted_into_what_it_was_joined_of() -> None:
    parameters = {"head.weight": np.zeros(2), "optimizer/odd": np.zeros(3)}
    optimizer = {UPDATES: np.array([3]), "head.weight/0": np.ones(2)}
    state = joined(parameters, optimizer)
    assert list(state) == [
        "parameter/head.weight",
        "parameter/optimizer/odd",
        "optimizer/updates",
        "optimizer/head.weight/0",
    ]
    found = parted(state | {"loss_scale/scale": np.ones(1)})
    assert found == (parameters, optimizer)


def test_the_number_of_updates_is_read() -> None:
    assert updates_of({UPDATES: np.array([7], np.int64)}, "a.params") == 7
    assert updates_of({}, "a.params") == 0


@pytest.mark.parametrize("value", [3, [], [[3]], [3, 4], [-1], [2**60], [np.nan], [np.inf], ["3"]])
def test_what_is_no_number_of_updates_is_damage(value: Any) -> None:
    with pytest.raises(ArtifactError, match=r"a\.params is damaged: updates is not one number from 0 to"):
        updates_of({UPDATES: np.array(value)}, "a.params")
