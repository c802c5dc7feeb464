from __future__ import annotations

import math

import pytest
from made_report import made_epochs

from semseg.reporting.html import charts
from semseg.reporting.html.charts import chart, nice_ticks, training_charts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.5, 1]),
        (0.31, 2.6, [0, 1, 2, 3]),
        (0.9, 0.99, [0.9, 0.95, 1]),
        (1e-6, 1e-3, [0, 0.0005, 0.001]),
        (2.0, 2.0, [1, 1.5, 2, 2.5, 3]),
        (0.0, 0.0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_few_round_numbers_around_the_values(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("low", [0.0, 1e-9, 0.123, 7.0, 123456.0])
@pytest.mark.parametrize("range_of", [1e-7, 0.02, 0.9, 31.0, 1e6])
def test_ticks_cover_any_values(low: float, range_of: float) -> None:
    ticks = nice_ticks(low, low + range_of)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + range_of * 1e-6
    assert ticks[-1] >= (low + range_of) * (1 - 1e-6)


def test_a_value_that_is_missing_leaves_a_gap() -> None:
    (curve,) = chart("Loss", [0, 1, 2, 3, 4], [("validation", [1.0, 2.0, None, 3.0, 4.0])]).curves
    assert [len(line.split()) for line in curve.lines] == [2, 2]
    assert [dot.epoch for dot in curve.dots] == [0, 1, 3, 4]
    assert curve.last == 4.0


def test_points_are_where_their_values_are() -> None:
    """The smallest value is drawn at the bottom, the largest at the top, the first epoch left and the last right."""
    (curve,) = chart("Loss", [0, 1, 2], [("training", [3.0, 2.0, 0.0])]).curves
    first, _, last = curve.dots
    assert (first.x, first.y) == (charts.LEFT, charts.TOP)
    assert (last.x, last.y) == (charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM)


def test_a_share_has_no_tick_above_one() -> None:
    ticks = chart("Pixel accuracy", [0], [("validation", [1.0])], highest=1).y_ticks
    assert [tick.text for tick in ticks] == ["0.5", "1"]


@pytest.mark.parametrize(("count", "dotted"), [(1, True), (40, True), (41, False), (300, False)])
def test_many_epochs_are_drawn_without_dots_and_with_few_numbers(count: int, dotted: bool) -> None:
    for drawn in training_charts(made_epochs(count, 2)):
        assert len(drawn.x_ticks) <= 8
        assert all(bool(curve.dots) == dotted for curve in drawn.curves)
        assert all(len(curve.lines) == 1 for curve in drawn.curves)


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    (epoch,) = made_epochs(1, 2)
    object.__setattr__(epoch.validated, "loss", math.nan)
    loss, *_ = training_charts([epoch])
    assert [curve.last for curve in loss.curves] == [epoch.trained.loss, None]
    assert "nan" not in repr(loss)


@pytest.mark.parametrize(
    ("count", "numbers"), [(1, [1]), (3, [1, 2, 3]), (30, [5, 10, 15, 20, 25, 30]), (120, [20, 40, 60, 80, 100, 120])]
)
def test_the_axis_counts_epochs_from_1(count: int, numbers: list[int]) -> None:
    for drawn in training_charts(made_epochs(count, 2)):
        assert [int(tick.text) for tick in drawn.x_ticks] == numbers
        assert all(curve.dots[0].epoch == 1 for curve in drawn.curves if curve.dots)
        assert " in epoch 1, " in drawn.summary
        assert f" in epoch {count}" in drawn.summary


def test_the_best_epoch_is_marked() -> None:
    epochs = made_epochs(20, 2)
    best = max(epochs, key=lambda epoch: epoch.validated.mean_iou)
    loss, mean_iou, *_ = training_charts(epochs)
    assert loss.best is None
    assert mean_iou.best == mean_iou.curves[0].dots[best.trained.epoch].x
