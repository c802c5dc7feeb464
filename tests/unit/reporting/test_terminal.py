from __future__ import annotations

import io
import logging

import pytest

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Quantized, Resumed, Scored, Step
from semseg.reporting.terminal import EpochLines, TerminalLog
from semseg.sagemaker.log_lines import FOR_PARSERS, FOR_PEOPLE


def ended(epoch: int, mean_iou: float, improved: bool) -> EpochEnded:
    trained = EpochTrained(epoch, 3, 1.23456, 0.001, 9.0, 0.0)
    return EpochEnded(trained, EpochValidated(epoch, 1.5, 0.9, mean_iou, None, [0.5], 8.0), 10, improved)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_epoch_has_a_line_with_the_best_so_far_and_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = EpochLines(stream, clock)
    for epoch, mean_iou, improved in ((0, 0.25, True), (1, 0.125, False), (9, 0.5, True)):
        clock.now += 60
        lines(Step(epoch, "training", 1, 3, 2, 0.1, 0.5))
        lines(ended(epoch, mean_iou, improved))
    lines(Quantized(0.5, 0.4991, 20, kept=True))
    lines(Scored("validation", 12, 0.75, 0.5, None, []))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "epoch  1/10  loss 1.2346  mIOU 0.2500  best 0.2500 (epoch 1)  9 min left",
        "epoch  2/10  loss 1.2346  mIOU 0.1250  best 0.2500 (epoch 1)  8 min left",
        "epoch 10/10  loss 1.2346  mIOU 0.5000  best 0.5000 (epoch 10)",
        "int8: mIOU 0.4991 instead of 0.5000, kept",
        "best model, 12 whole images of validation: mIOU 0.5000, pixel accuracy 0.7500",
    ]
    assert max(map(len, stream.getvalue().splitlines())) <= 80


def test_a_resumed_run_counts_its_own_time_alone() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = EpochLines(stream, clock)
    lines(Resumed((ended(0, 0.5, True), ended(1, 0.25, False))))
    clock.now += 20
    lines(ended(2, 0.75, True))
    assert stream.getvalue().splitlines() == [
        "2 epochs had ended before, best 0.5000 (epoch 1)",
        "epoch  3/10  loss 1.2346  mIOU 0.7500  best 0.7500 (epoch 3)  2 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "45 s left"), (11, "99 s left"), (12, "2 min left"), (1000, "2 h 30 min left")]
)
def test_durations_are_rounded(seconds: float, said: str) -> None:
    stream, clock = io.StringIO(), Clock()
    lines = EpochLines(stream, clock)
    clock.now += seconds
    lines(ended(0, 0.5, True))
    assert stream.getvalue().rstrip().endswith(f"  {said}")


def test_a_terminal_shows_warnings_and_what_is_marked_for_people() -> None:
    stream = io.StringIO()
    logger = logging.Logger("any")
    logger.addHandler(TerminalLog(stream))
    logger.info("a line for parsers")
    logger.info("a stage of %s", "the job", extra=FOR_PEOPLE)
    logger.warning("be careful")
    logger.warning("a warning of the built-in algorithm", extra=FOR_PARSERS)
    logger.error("ClientError: the data is missing")
    assert stream.getvalue().splitlines() == [
        "a stage of the job",
        "Warning: be careful",
        "ClientError: the data is missing",
    ]
