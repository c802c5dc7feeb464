from __future__ import annotations

import io

from semseg.reporting.events import Step
from semseg.reporting.progress_bar import ProgressBar


def test_draws_a_bar_for_each_half_of_an_epoch() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for phase in ("training", "validation"):
        for iteration in (1, 2):
            bar(Step(4, phase, iteration, 2, 16, None))
    assert "epoch 4 training" in stream.getvalue()
    assert "epoch 4 validation" in stream.getvalue()
