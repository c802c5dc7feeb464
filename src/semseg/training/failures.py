"""Why a training on several ranks fails: which of the errors that follow each other was the cause."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass

from semseg.errors import GroupError, SemsegError

_LONGEST = 20_000
"""Characters of a text; together with the rest, a failure fits into a message between hosts."""

DIED, RAISED, LOST = range(3)
"""What ended a rank or host: it died or fell silent; it raised an error of its own; it lost another one.

A rank that dies makes the others lose it, and perhaps raise errors: so the lowest of these is the cause.
"""


@dataclass(frozen=True)
class Failure:
    """What ended a rank or a host.

    kind: DIED, RAISED or LOST. message: names the rank or host. exit_code: of the error. details: a traceback.
    """

    kind: int
    message: str
    exit_code: int = GroupError.exit_code
    details: str = ""

    def error(self) -> GroupError:
        """Returns the error that ends this host's part of the training."""
        error = GroupError(self.message, exit_code=self.exit_code)
        if self.details:
            error.add_note(self.details)
        return error

    def to_json(self) -> str:
        """Returns text for `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Failure:
        """Returns the failure in the text. Raises ValueError if it is none."""
        try:
            values = json.loads(text)
        except RecursionError:
            values = None
        kinds = {"kind": int, "message": str, "exit_code": int, "details": str}
        if (
            not isinstance(values, dict)
            or values.keys() != kinds.keys()
            or any(type(values[name]) is not kind for name, kind in kinds.items())
            or values["kind"] not in (DIED, RAISED, LOST)
            or values["exit_code"] not in (1, 2)
        ):
            raise ValueError("not a failure")
        return cls(**values)


def failure_of(error: Exception, who: str, details: str) -> Failure:
    """Returns the failure of a rank, `who`, that an error has ended; details: its traceback."""
    kind = LOST if isinstance(error, GroupError) else RAISED
    if isinstance(error, SemsegError):
        user_is_to_blame = error.exit_code == 1
        return Failure(
            kind, f"{who}: {error}"[:_LONGEST], error.exit_code, "" if user_is_to_blame else details[-_LONGEST:]
        )
    return Failure(kind, f"{who}: {type(error).__name__}: {error}"[:_LONGEST], details=details[-_LONGEST:])


def cause_of(failures: Iterable[Failure]) -> Failure:
    """Returns the cause among failures in their order in time: the first of those of the lowest kind."""
    return min(failures, key=lambda failure: failure.kind)
