"""Curves over the epochs, as the coordinates of an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semseg.reporting.events import EpochEnded

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 30
"""The size of a drawing and its margins, which hold the numbers of the axes."""

_DOTTED = 40
"""The most epochs whose points are marked."""

_STEPS = (1, 2, 5, 10)
_ROOM = 1e-9

Value = float | None


@dataclass(frozen=True)
class Tick:
    """A number on an axis, and its coordinate."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """The point of an epoch, whose number is for people, from 1."""

    x: float
    y: float
    epoch: int
    value: float


@dataclass(frozen=True)
class Curve:
    """A line of a chart. lines: its unbroken parts, in SVG's form. last: the value of the last epoch that has one."""

    name: str
    lines: Sequence[str]
    dots: Sequence[Dot]
    last: Value


@dataclass(frozen=True)
class Chart:
    """A chart. summary: what it shows, in words. best: the coordinate of the epoch to mark; None for no mark."""

    title: str
    summary: str
    curves: Sequence[Curve]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    best: float | None


def training_charts(epochs: Sequence[EpochEnded]) -> list[Chart]:
    """Returns the charts of a training with at least one epoch: loss, mIOU, pixel accuracy and learning rate."""
    best = best_epoch(epochs)
    loss = [("training", _of(e.trained.loss for e in epochs)), ("validation", _of(e.validated.loss for e in epochs))]
    mean = [
        ("all classes", _of(e.validated.mean_iou for e in epochs)),
        ("classes present", _of(e.validated.mean_iou_present for e in epochs)),
    ]
    accuracy = [("validation", _of(e.validated.pixel_accuracy for e in epochs))]
    rate = [("last of the epoch", _of(e.trained.learning_rate for e in epochs))]
    numbers = [e.number for e in epochs]
    place = numbers.index(best.number)
    return [
        chart("Loss", numbers, loss),
        chart("Validation mIOU", numbers, mean, highest=1, mark=place),
        chart("Pixel accuracy", numbers, accuracy, highest=1),
        chart("Learning rate", numbers, rate),
    ]


def best_epoch(epochs: Sequence[EpochEnded]) -> EpochEnded:
    """Returns the epoch whose model was kept: the last one that improved on those before."""
    return next((epoch for epoch in reversed(epochs) if epoch.improved), epochs[-1])


def chart(
    title: str,
    epochs: Sequence[int],
    series: Sequence[tuple[str, Sequence[Value]]],
    highest: float = math.inf,
    mark: int | None = None,
) -> Chart:
    """Returns the chart of several series of values from 0 up, one for each epoch; None leaves a gap.

    epochs: their numbers, from 1. highest: what no value exceeds. mark: the index of an epoch to mark.
    """
    values = [value for _, found in series for value in found if value is not None]
    around = nice_ticks(min(values, default=0.0), max(values, default=1.0))
    y_values = [value for value in around if 0 <= value <= highest]
    low, high = y_values[0], y_values[-1]
    xs = [_x(index, len(epochs)) for index in range(len(epochs))]

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    curves = [_curve(name, epochs, xs, [None if v is None else y(v) for v in found], found) for name, found in series]
    return Chart(
        title,
        _summary(title, epochs, series),
        curves,
        [Tick(xs[index], str(epochs[index])) for index in _marked(epochs)],
        [Tick(y(value), f"{value:.6g}") for value in y_values],
        None if mark is None else xs[mark],
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns some `count` round numbers, of which the first is at most `low` and the last at least `high`."""
    if high - low <= _ROOM * max(abs(high), 1e-12):
        low, high = low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    rough = (high - low) / (count - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in _STEPS if factor * magnitude >= rough * (1 - _ROOM))
    first, last = math.floor(low / step + _ROOM), math.ceil(high / step - _ROOM)
    return [number * step for number in range(first, last + 1)]


def _of(values: Iterable[Value]) -> list[Value]:
    return [value if value is not None and math.isfinite(value) else None for value in values]


def _x(index: int, count: int) -> float:
    width = WIDTH - LEFT - RIGHT
    return round(LEFT + (width / 2 if count == 1 else width * index / (count - 1)), 1)


def _marked(epochs: Sequence[int]) -> list[int]:
    """The indices of at most eight epochs to name on the axis: those with round numbers."""
    step = next(f * 10**power for power in range(9) for f in (1, 2, 5) if f * 10**power * 7 >= len(epochs) - 1)
    return [index for index, number in enumerate(epochs) if number % step == 0]


def _curve(
    name: str, epochs: Sequence[int], xs: Sequence[float], ys: Sequence[Value], values: Sequence[Value]
) -> Curve:
    lines: list[str] = []
    points: list[str] = []
    for x, y in zip([*xs, 0.0], [*ys, None], strict=True):
        if y is not None:
            points.append(f"{x:g},{y:g}")
        elif points:
            lines.append(" ".join(points))
            points = []
    known = [
        Dot(x, y, epoch, value)
        for epoch, x, y, value in zip(epochs, xs, ys, values, strict=True)
        if y is not None and value is not None
    ]
    return Curve(name, lines, known if len(epochs) <= _DOTTED else (), known[-1].value if known else None)


def _summary(title: str, epochs: Sequence[int], series: Sequence[tuple[str, Sequence[Value]]]) -> str:
    """Says where each series starts and ends: what a reader who cannot see the chart would ask first."""
    parts = []
    for name, found in series:
        known = [(epoch, value) for epoch, value in zip(epochs, found, strict=True) if value is not None]
        if known:
            (first, start), (last, end) = known[0], known[-1]
            parts.append(f"{name}: {start:.4g} in epoch {first}, {end:.4g} in epoch {last}")
    return f"{title} by epoch. {'; '.join(parts)}."
