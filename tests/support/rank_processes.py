"""Jobs on several ranks, the processes of these, and what is reported on their epochs."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

RANKS = {"_ranks": "2", "_export_onnx": "False", "_logging_frequency": "1", "_workers": "1", "mini_batch_size": "5"}
"""Hyperparameters, of which one rank of two has three images of each batch and the other two."""


def values(job: Any) -> list[dict[str, Any]]:
    """What is reported on the epochs, except the speeds."""
    lines = (job.paths.output_data / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith(("throughput", "waiting"))} for line in lines]


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the ranks, those that multiprocessing has started, in the order of their ranks."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == process.pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return sorted(found)


def await_end(pids: list[int]) -> None:
    """Waits until none of the processes runs; a zombie does not."""
    deadline = time.monotonic() + 30
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, f"the process {pid} still runs"
            time.sleep(0.02)
