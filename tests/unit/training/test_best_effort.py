from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from semseg.errors import DiskFullError
from semseg.reporting.events import Event, ModelSaved
from semseg.training.best_effort import OptionalSink

EVENT = ModelSaved(Path("model"))


class Failing:
    """A sink that raises an error whenever it is used, and counts the uses."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.used = 0

    def __call__(self, event: Event) -> None:
        assert event is EVENT
        self.close()

    def close(self) -> None:
        self.used += 1
        if self.error:
            raise self.error


def use(error: Exception | None) -> int:
    """Gives a sink two events and closes it; returns how often it was used."""
    sink = Failing(error)
    optional = OptionalSink(sink, "report.html")
    optional(EVENT)
    optional(EVENT)
    optional.close()
    return sink.used


def test_a_sink_that_works_is_given_all_events(caplog: pytest.LogCaptureFixture) -> None:
    assert use(None) == 3
    assert not caplog.messages


@pytest.mark.parametrize("error", [lambda: DiskFullError(Path("/data")), lambda: OSError(13, "Permission denied")])
def test_a_sink_that_cannot_write_warns_and_is_tried_again(
    error: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="semseg"):
        assert use(error()) == 3
    assert caplog.messages == 3 * [f"The training goes on, but report.html could not be written. {error()}"]


def test_a_sink_with_a_bug_is_left_out_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="semseg"):
        assert use(KeyError("lost")) == 1
    assert caplog.messages == ["The training goes on without report.html."]
    assert "KeyError: 'lost'" in caplog.text


def test_a_training_that_ends_is_not_held_up() -> None:
    with pytest.raises(KeyboardInterrupt):
        OptionalSink(Failing(KeyboardInterrupt()), "report.html")(EVENT)  # type: ignore[arg-type]
