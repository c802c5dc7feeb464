"""A hunt for bytes that break something: generated cases, the same in every run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

LONG = int(os.environ.get("SEMSEG_HOSTILE_FACTOR", "10"))
"""How many times as many cases a long hunt has as a short one."""

PATIENCE = 60
"""Seconds after which a case counts as one that hangs, on a busy machine too."""


@dataclass(frozen=True)
class Hunt:
    """Runs cases and counts them; a case that fails is kept in `folder`.

    factor: 1 for a short hunt, LONG for a long one.
    """

    folder: Path
    counts: dict[str, int]
    factor: int

    def run(self, name: str, cases: int, make: Callable[[Random], bytes], check: Callable[[bytes], None]) -> None:
        """Check what is made of the seeds `NAME 0`, `NAME 1` and so on: `cases` of them, times the factor.

        check: raises for a case that breaks something. Raises AssertionError, which names the case's seed and the file
        with its bytes.
        """
        for number in range(cases * self.factor):
            seed = f"{name} {number}"
            case = make(Random(seed))
            try:
                with _patience(seed):
                    check(case)
            except Exception as error:
                file = self.folder / seed.replace(" ", "-")
                file.write_bytes(case)
                raise AssertionError(f"Case {seed!r}, whose bytes are in {file}: {error!r}") from error
        self.counts[name] = cases * self.factor


@contextmanager
def _patience(seed: str) -> Iterator[None]:
    """The block may take so long and no longer."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{seed} takes over {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
