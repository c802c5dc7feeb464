"""`semseg` for the network of `small_learner`, which numpy trains and OpenVINO serves.

With HOLD_AT in its environment the process, be it that of a rank, waits for a signal when it has written the first line
with these words. The signal may be one that ends or stops the training, or CONTINUE, which has no other effect.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from typing import Any, TextIO
from unittest.mock import patch

from small_learner import small_training

from semseg import cli

HOLD_AT = "HOLD_AT"
ENGINE = "ENGINE"
"""Set to `torch`, the network is trained by PyTorch."""

FIRST_PORT = "FIRST_PORT"
"""The first of two ports at which hosts find each other, in place of the fixed ones, which other tests may use."""

CONTINUE = signal.SIGUSR1
FOR_GOOD = ExitStack()
"""Never closed: a server's worker that is stopped leaves `main` while its thread may still load the model."""

SECONDS = 60
"""The longest wait for a signal: a test that fails leaves no process behind."""


class HoldingOutput:
    """A text file that waits for a signal to this process when it has written the first line with some words."""

    def __init__(self, file: TextIO, words: str) -> None:
        self._file, self._words, self._line, self._held = file, words, "", False
        self._signals, woken = socket.socketpair()
        self._signals.settimeout(SECONDS)
        woken.setblocking(False)
        signal.signal(CONTINUE, lambda *_: None)
        signal.set_wakeup_fd(woken.detach())  # Python writes to it, whichever thread the signal reaches

    def write(self, text: str) -> int:
        count = self._file.write(text)
        self._line += text
        if text.endswith("\n"):
            line, self._line = self._line, ""
            if self._words in line and not self._held:
                self._held = True
                self._file.flush()
                self._signals.recv(1)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def prepare() -> None:
    if words := os.environ.get(HOLD_AT):
        name = "stderr" if sys.stderr.isatty() else "stdout"
        setattr(sys, name, HoldingOutput(getattr(sys, name), words))
    if first := os.environ.get(FIRST_PORT):
        for module in ("absence", "calls", "launch"):
            FOR_GOOD.enter_context(patch(f"semseg.training.{module}.WATCH_PORT", int(first)))
        FOR_GOOD.enter_context(patch("semseg.training.launch.STORE_PORT", int(first) + 1))
    FOR_GOOD.enter_context(small_training(with_torch=os.environ.get(ENGINE) == "torch"))


if __name__ == "__main__":
    prepare()
    sys.exit(cli.main())
if __name__ == "__mp_main__":  # in the process of a rank, which multiprocessing starts
    prepare()
