from __future__ import annotations

import json
import traceback

import pytest

from semseg.errors import DataError, GroupError
from semseg.training.failures import DIED, LOST, RAISED, Failure, cause_of, failure_of
from semseg.training.peers import LONGEST


def test_the_cause_is_a_death_then_an_error_then_a_loss_and_the_first_of_these() -> None:
    lost, first, second = Failure(LOST, "lost"), Failure(RAISED, "first"), Failure(RAISED, "second")
    died = Failure(DIED, "died")
    assert cause_of([lost, first, second]) == first
    assert cause_of([lost, first, died]) == died
    assert cause_of([lost]) == lost


def test_a_users_error_keeps_its_words_and_its_exit_code() -> None:
    failure = failure_of(DataError("a.png is damaged.", "Mend it."), "Rank 1", "a traceback")
    error = failure.error()
    assert (failure.kind, str(error), error.exit_code) == (RAISED, "Rank 1: a.png is damaged. Mend it.", 1)
    assert not hasattr(error, "__notes__")


def test_any_other_error_keeps_its_traceback() -> None:
    try:
        raise KeyError("b")
    except KeyError as error:
        failure = failure_of(error, "Rank 1", traceback.format_exc())
    assert (failure.message, failure.exit_code) == ("Rank 1: KeyError: 'b'", 2)
    assert "test_any_other_error_keeps_its_traceback" in failure.error().__notes__[0]


def test_a_lost_rank_is_no_cause() -> None:
    assert failure_of(GroupError("Rank 0 has left."), "Rank 1", "").kind == LOST


@pytest.mark.parametrize("character", ["a", "\n", "ß", "語", "😀", "\0"])
def test_a_failure_passes_between_processes_and_hosts_in_bounded_length(character: str) -> None:
    """JSON takes several bytes for most characters, and twice as many for JSON in JSON."""
    failure = failure_of(ValueError(character * 10**6), "Rank 1", character * 10**6)
    assert len(json.dumps({"failed": failure.to_json()})) < LONGEST
    assert Failure.from_json(failure.to_json()) == failure


@pytest.mark.parametrize(
    "damage", [{"kind": "0"}, {"kind": 3}, {"exit_code": True}, {"exit_code": 0}, {"more": 1}, {"message": None}]
)
def test_anything_else_is_no_failure(damage: dict[str, object]) -> None:
    values = json.loads(Failure(DIED, "Rank 1").to_json()) | damage
    for text in (json.dumps(values), "[]", "1", "{", "", "[" * 10**5):
        with pytest.raises(ValueError, match=r"not a failure|Expecting"):
            Failure.from_json(text)
