"""Measures the stages of a start of `serve`, from exec to /ping 200.

The network is FCN-ResNet50 of 21 classes, with its model.onnx, as training leaves it; the files are in the page cache.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from untrained import write_model

from semseg.artifact.model_dir import describe
from semseg.exporting.onnx_model import write_onnx
from semseg.sagemaker.paths import Paths

BAR = 3.0
RUNS = 3
STAGES = {
    "loading model...": "Python, Flask, gunicorn, fork",
    "Number of GPUs being used": "description of the model",
    "Loading weights from": "SHA-256 of the parameters, OpenVINO",
    "...model loaded.": "first image",
}


def main() -> int:
    """Starts the server a few times; returns 1 if the median misses the bar."""
    with tempfile.TemporaryDirectory() as base:
        paths = Paths(Path(base))
        write_onnx(describe(write_model(paths.model, num_classes=21)), paths.model / "model.onnx")
        runs = [measure(paths.base) for _ in range(RUNS)]
    print(f"{'seconds since exec, up to the end of':42}" + "".join(f"run {number:<4}" for number in range(1, RUNS + 1)))
    for stage in (*STAGES.values(), "/ping 200"):
        print(f"{stage:42}" + "".join(f"{run[stage]:<8.2f}" for run in runs))
    seconds = statistics.median(run["/ping 200"] for run in runs)
    print(f"serve_start: {seconds:.2f} s, bar {BAR:.2f} s, {'ok' if seconds < BAR else 'short'}")
    return int(seconds >= BAR)


def measure(base: Path) -> dict[str, float]:
    """Starts and stops a server; returns the end of each stage in seconds since exec."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = os.environ | {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}
    command = [Path(sys.executable).with_name("serve")]
    begin = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        times: dict[str, float] = {}
        for line in server.stdout:
            times |= {stage: time.perf_counter() - begin for start, stage in STAGES.items() if line.startswith(start)}
            if line.startswith("...model loaded."):
                break
        while server.poll() is None and not ready(port):
            time.sleep(0.01)
        times["/ping 200"] = time.perf_counter() - begin
        server.send_signal(signal.SIGTERM)
    return times


def ready(port: int) -> bool:
    """Whether /ping returns 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
