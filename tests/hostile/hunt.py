"""A hunt for bytes that break something: generated cases, the same in every run, until the time is up."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

SECONDS = float(os.environ.get("SEMSEG_HOSTILE_SECONDS", "120"))
"""For all hunts together, not counting what it takes to prepare them."""

PATIENCE = 60
"""Seconds after which a case counts as one that hangs, on a busy machine too."""


@dataclass(frozen=True)
class Hunt:
    """Runs cases and counts them; a case that fails is kept in `folder`."""

    folder: Path
    counts: dict[str, int]

    def run(
        self, name: str, share: float, least: int, make: Callable[[Random], bytes], check: Callable[[bytes], None]
    ) -> None:
        """Check what is made of the seeds `NAME 0`, `NAME 1` and so on, for a share (0 to 1) of the time for all.

        check: raises for a case that breaks something. Raises AssertionError, which names the case's seed and the file
        with its bytes, and when there were fewer cases than `least` for each minute that all hunts have.
        """
        end = time.monotonic() + share * SECONDS
        for number in itertools.count():
            if time.monotonic() >= end:
                break
            seed = f"{name} {number}"
            case = make(Random(seed))
            try:
                with _patience(seed):
                    check(case)
            except Exception as error:
                file = self.folder / seed.replace(" ", "-")
                file.write_bytes(case)
                raise AssertionError(f"Case {seed!r}, whose bytes are in {file}: {error!r}") from error
        self.counts[name] = number
        assert number >= least * SECONDS / 60, f"{name}: {number} cases"


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
