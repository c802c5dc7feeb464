from __future__ import annotations

import io

from semseg.reporting.events import EpochTrained, EpochValidated, Step
from semseg.reporting.progress_bar import ProgressBar

TRAINED = EpochTrained(4, 2, 1.0, 0.1, 5.0, 0.0)
VALIDATED = EpochValidated(4, 1.5, 0.5, 0.5, None, [None], 5.0)


def test_draws_a_bar_for_each_half_of_an_epoch() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for phase, end in (("training", TRAINED), ("validation", VALIDATED)):
        for iteration in (1, 2):
            bar(Step(4, phase, iteration, 2 if phase == "training" else None, 16, None, None))
        bar(end)
    assert "epoch 5 training:   0%| " in stream.getvalue()
    assert "epoch 5 validation: 0it" in stream.getvalue()
    assert stream.getvalue().endswith(" \r")  # each bar is wiped away


def test_a_bar_is_taken_away_when_the_run_ends_within_an_epoch() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    bar(Step(4, "training", 1, 2, 16, 0.1, 1.5))
    assert not stream.getvalue().endswith(" \r")
    bar.close()
    assert stream.getvalue().endswith(" \r")
    written = len(stream.getvalue())
    bar.close()  # there is none any more
    assert len(stream.getvalue()) == written
