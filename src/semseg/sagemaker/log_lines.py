"""The built-in algorithm's log lines with metrics, reproduced exactly, and the logging setup."""

from __future__ import annotations

import json
import logging
import re
import sys

LOGGER = logging.getLogger("semseg")

CONTENT_TYPES = ("application/json", "application/x-image", "application/x-recordio", "image/jpeg", "image/png")

FOR_PEOPLE = {"for_people": True}
"""The `extra` of a log call whose line a person at a terminal sees, though it is no warning."""

FOR_PARSERS = {"for_people": False}
"""The `extra` of a warning of the built-in algorithm that says nothing to a person."""


def is_for_people(record: logging.LogRecord) -> bool:
    """Returns whether a person at a terminal sees this line: warnings and errors, unless `extra` says otherwise."""
    shown: bool = getattr(record, "for_people", record.levelno >= logging.WARNING)
    return shown


_MARK_WITHIN = re.compile(r"(?<!^)#(?=[a-z]+_(metric|notice))")


class _Formatter(logging.Formatter):
    """The built-in algorithm's format. Only the beginning of a message can be a metric's mark.

    A platform searches lines for marks, and the names of files and classes, and other texts of users, may hold one.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = _MARK_WITHIN.sub("# ", record.message)
        return super().formatMessage(record)


def set_up_logging() -> None:
    """Sends the log to stdout as `[01/12/2025 23:57:06 INFO 139670567847744] message`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("[%(asctime)s %(levelname)s %(thread)d] %(message)s", datefmt="%m/%d/%Y %H:%M:%S"))
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def quality(host: str, epoch: int, name: str, value: float) -> str:
    """Returns the line of an epoch's metric; `name`: `train loss`, `validation pixel_accuracy` or `validation mIOU`."""
    return f"#quality_metric. host: {host}, epoch: {epoch}, {name}: {value} ."


def final_quality(host: str, name: str, value: float) -> str:
    """Returns the line of a score of the best model on whole images; `name`: such as `test mIOU`.

    The built-in algorithm has no such line, and its metric regexes do not match it.
    """
    return f"#final_metric. host: {host}, {name}: {value} ."


def throughput(host: str, epoch: int, phase: str, samples_per_second: float) -> str:
    """Returns the line with the speed of an epoch's `train` or `validation`."""
    return f"#throughput_metric. host: {host}, epoch: {epoch}, {phase} throughput: {samples_per_second} samples/sec."


def progress_notice(epoch: int, iterations: int, samples_per_second: float, learning_rate: float | None) -> str:
    """Returns the notice logged every `_logging_frequency` iterations; only training's has a learning rate."""
    line = f"#progress_notice. epoch: {epoch}, iterations: {iterations} speed: {samples_per_second} samples/sec"
    return line if learning_rate is None else f"{line} learning_rate: {learning_rate:.6f}"


def progress(host: str, completed_epochs: int, epochs: int) -> str:
    """Returns the line with the completed share of the epochs."""
    return f"#progress_metric: host={host}, completed {100 * completed_epochs / epochs} % of epochs"


def metrics(start: float, end: float, dimensions: dict[str, str | int], values: dict[str, float]) -> str:
    """Returns a `#metrics` line of values seen once each, between two times in seconds since 1970."""
    content = {
        "StartTime": start,
        "EndTime": end,
        "Dimensions": {"Algorithm": "AWS/Semantic Segmentation"} | dimensions,
        "Metrics": {name: _seen_once(value) for name, value in values.items()},
    }
    return f"#metrics {json.dumps(content)}"


def scoring(start: float, end: float) -> str:
    """Returns the `#metrics` line of one invocation of a served model, between two times in seconds since 1970."""
    content = {
        "Metrics": {"invocations.count": _seen_once(1.0)},
        "Dimensions": {"Host": "UNKNOWN", "Operation": "scoring", "Algorithm": "SemanticSegmentationModel"},
        "StartTime": start,
        "EndTime": end,
    }
    return f"#metrics {json.dumps(content)}"


def _seen_once(value: float) -> dict[str, float]:
    """Returns the statistics of one value; only the sum of an integer is a float: `"sum": 10.0, "min": 10`."""
    extreme = int(value) if value.is_integer() else value
    return {"sum": value, "count": 1, "min": extreme, "max": extreme}
