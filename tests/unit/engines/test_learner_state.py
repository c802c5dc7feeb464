from __future__ import annotations

import numpy as np

from semseg.engines.learner_state import UPDATES, joined, parted


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
