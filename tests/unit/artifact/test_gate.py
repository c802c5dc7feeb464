from __future__ import annotations

from typing import Any

import pytest

from semseg.artifact.gate import Gate, read_gate


@pytest.mark.parametrize(("int8", "passed"), [(0.9, True), (0.7, True), (0.6951, True), (0.6949, False), (0, False)])
def test_half_a_point_may_be_lost(int8: float, passed: bool) -> None:
    assert Gate(0.7, int8, 9).passed is passed


def test_the_gate_is_read_from_a_file() -> None:
    gate = Gate(0.123456789, 0.7, 9)
    assert read_gate(gate.metadata()) == gate


@pytest.mark.parametrize("change", [{"mIOU_f32": None}, {"mIOU_int8": "good"}, {"gate_pictures": "1.5"}])
def test_a_file_without_its_numbers_has_no_gate(change: dict[str, Any]) -> None:
    metadata = Gate(0.5, 0.5, 9).metadata() | change
    assert read_gate({key: value for key, value in metadata.items() if value}) is None


def test_what_is_no_number_does_not_pass() -> None:
    assert not Gate(0.5, float("nan"), 1).passed
