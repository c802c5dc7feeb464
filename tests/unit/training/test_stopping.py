from __future__ import annotations

import pytest

from semseg.training.stopping import EarlyStopping


def epochs_run(curve: list[float], min_epochs: int, patience: int, tolerance: float) -> int:
    stopping = EarlyStopping(min_epochs, patience, tolerance)
    return next((epoch for epoch in range(1, len(curve) + 1) if stopping.ends(curve[:epoch])), -1)


@pytest.mark.parametrize(
    ("curve", "min_epochs", "patience", "tolerance", "stop"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 1, 0.0, -1),
        ([0.3, 0.2, 0.1, 0.1], 1, 2, 0.0, 3),
        ([0.1, 0.2, 0.3, 0.2], 1, 0, 0.0, 4),  # a patience of 0 does not stop while the mIOU gains
        ([0.3, 0.3, 0.3], 1, 2, 0.0, 3),
        ([0.0, 0.0, 0.0], 1, 2, 0.0, 2),
        ([0.3, 0.2, 0.4, 0.2, 0.3], 1, 2, 0.0, 5),  # consecutive: the gain in between starts the count anew
        ([0.3, 0.2, 0.25, 0.31], 1, 2, 0.0, 3),  # relative to the best so far, not to the epoch before
        ([0.3, 0.2, 0.1, 0.1], 4, 2, 0.0, 4),
        ([0.50, 0.52, 0.55], 1, 2, 0.1, 3),  # gains of 4 and 5.8 %
        ([0.50, 0.56, 0.62], 1, 1, 0.1, -1),
    ],
)
def test_stops_after_consecutive_epochs_without_gain(
    curve: list[float], min_epochs: int, patience: int, tolerance: float, stop: int
) -> None:
    assert epochs_run(curve, min_epochs, patience, tolerance) == stop
