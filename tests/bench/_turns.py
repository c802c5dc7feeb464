"""Processes that take turns, so that what is compared runs on the same machine at almost the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

THREADS = 2
RESULT = "result: "
"""Begins the lines of a process's output that are results."""

Call = Callable[[], float]
"""Does something, and returns a number, such as the seconds that it took."""

Turn = Callable[[int], float]
"""Makes a call in another process, by its number, and returns what it returns."""


@contextmanager
def taking_turns(
    script: str | Path, *arguments: str | Path, python: str | Path = sys.executable, threads: int = THREADS
) -> Iterator[Turn]:
    """Runs a script of this folder, which calls `answer`, in a process of its own with so many threads for computing.

    python: the interpreter of the environment to run it in.
    """
    command = [python, Path(__file__).parent / script, *arguments]
    environ = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        requests, results = process.stdin, process.stdout
        assert requests
        assert results

        def call(number: int) -> float:
            with suppress(BrokenPipeError):  # it has ended, and so have its results
                print(number, file=requests, flush=True)
            for line in results:
                if line.startswith(RESULT):
                    return float(line.removeprefix(RESULT))
            raise RuntimeError(f"{script} ended with exit status {process.wait()}.")

        try:
            yield call
        finally:
            with suppress(BrokenPipeError):
                requests.close()


def answer(*calls: Call) -> None:
    """In the process of a script: makes the calls that are asked for, until there are no more."""
    sys.stdout.flush()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as results:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what libraries print
        for number in sys.stdin:
            print(f"{RESULT}{calls[int(number)]()}", file=results, flush=True)


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
