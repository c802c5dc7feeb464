from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path

from semseg.training.local_ranks import _signals_held

BOTH = {signal.SIGINT, signal.SIGTERM}


def test_signals_wait_until_a_process_handles_them() -> None:
    """Ctrl-C at a terminal reaches the ranks too, perhaps while they import. Here the first start starts more."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    with _signals_held():
        process.start()
    try:
        status = Path(f"/proc/{process.pid}/status").read_text().split()
        blocked = int(status[status.index("SigBlk:") + 1], 16)
        assert {number for number in BOTH if blocked >> (number - 1) & 1} == BOTH
        assert BOTH.isdisjoint(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    finally:
        process.kill()
        process.join(30)
