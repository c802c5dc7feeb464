from __future__ import annotations

import pytest

from semseg.reporting.events import EpochTrained, Event, Step
from semseg.reporting.sinks import Sinks

EVENTS = (Step(0, "training", 1, 1, 2, 0.1, 0.5), EpochTrained(0, 1, 0.5, 0.1, 5.0, 0.0))


class Noted:
    """A sink that records its calls in a list shared with others."""

    def __init__(self, name: str, notes: list[tuple[str, Event | None]], fails: bool = False) -> None:
        self._name, self._notes, self._fails = name, notes, fails

    def __call__(self, event: Event) -> None:
        self._notes.append((self._name, event))

    def close(self) -> None:
        self._notes.append((self._name, None))
        if self._fails:
            raise OSError("no room")


def test_each_event_goes_to_each_sink_in_order() -> None:
    notes: list[tuple[str, Event | None]] = []
    sinks = Sinks(Noted("a", notes), Noted("b", notes))
    for event in EVENTS:
        sinks(event)
    assert notes == [("a", EVENTS[0]), ("b", EVENTS[0]), ("a", EVENTS[1]), ("b", EVENTS[1])]


def test_all_are_closed_even_if_one_cannot_be() -> None:
    notes: list[tuple[str, Event | None]] = []
    sinks = Sinks(Noted("a", notes), Noted("b", notes, fails=True), Noted("c", notes))
    with pytest.raises(OSError, match="no room"):
        sinks.close()
    assert sorted(name for name, _ in notes) == ["a", "b", "c"]
