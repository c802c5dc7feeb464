"""Measures an engine on one GPU within five minutes and without network: parity, training, serving, what may be faster.

It prints a table, and writes it as JSON with each row, so that an interruption loses nothing that was measured. Each
stage has a process and a limit of time of its own; one that fails or is too slow is recorded, and the next one runs.
Exits with 1 if what the GPU computes is not what MXNet computed on a CPU, with 2 if there is nothing to measure.

`scripts/bench gpu` runs it in .venv-torch; `PYTHON=python3 scripts/bench gpu` in another environment, of Python 3.11 or
newer, with PyTorch (2.11 or newer), numpy and Pillow; without cykooz-resizer and simplejpeg it leaves out the loader.
--engine mxnet: measure MXNet's gpu variant. --only STAGE...: leave out the others. --tiny: try all stages on the CPU,
in sizes that tell nothing. --seconds N: for all stages together (300); the limits of the stages grow with it.
--json FILE: instead of gpu-bench-ENGINE.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path

from _gpu_common import Bench, Plan
from bench_stages import Report, Row, Stage, run

from semseg.version import __version__

SECONDS, TINY_SECONDS = 300.0, 3600.0
INSTALLATION = {
    "torch": "PyTorch is not installed. `scripts/setup torch` makes the environment .venv-torch with it; in another "
    "environment, `pip install torch numpy pillow` does.",
    "mxnet": "MXNet is not installed. `pip install 'semseg-container[gpu]'` installs it on Python 3.11.",
}
DEVICE = Stage("device", "gpu:about", 60)
STAGES = (
    Stage("parity", "_gpu_parity:rows", 60),
    Stage("training", "_gpu_train:rows", 100),
    Stage("torchvision", "_gpu_torchvision:rows", 30),
    Stage("serving", "_gpu_serve:rows", 40),
    Stage("ddp", "_gpu_ddp:rows", 35),
    Stage("loader", "_gpu_loader:rows", 30),
    Stage("limits", "_gpu_limits:rows", 30),
    Stage("graphs", "_gpu_faster:graph_rows", 60),
    Stage("compile", "_gpu_faster:compile_rows", 60),
)
TORCH_ALONE = ("torchvision", "ddp", "graphs", "compile")


def main() -> int:
    """Runs the stages; returns 1 if parity fails."""
    options = parsed()
    if importlib.util.find_spec(options.engine) is None:
        print(INSTALLATION[options.engine], file=sys.stderr)
        return 2
    plan = Plan(options.engine, options.tiny)
    path = options.json or Path(f"gpu-bench-{plan.engine}.json")
    report = Report(path, {"semseg": __version__, "engine": plan.engine, "tiny": plan.tiny})
    deadline = time.monotonic() + (TINY_SECONDS if plan.tiny else options.seconds)
    longer = options.seconds / SECONDS
    if run(replace(DEVICE, seconds=longer * DEVICE.seconds), plan, report, deadline) != "ok":
        return 2
    for stage in STAGES:
        if stage.name in options.only and (plan.engine == "torch" or stage.name not in TORCH_ALONE):
            run(replace(stage, seconds=TINY_SECONDS if plan.tiny else longer * stage.seconds), plan, report, deadline)
    print(f"The results are in {path}.")
    parity = [entry for entry in report.stages if entry["stage"] == "parity"]
    return int(any(entry["status"] != "ok" or not all(row["ok"] for row in entry["rows"]) for entry in parity))


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=INSTALLATION, default="torch")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json", type=Path)
    names = [stage.name for stage in STAGES]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    return parser.parse_args()


def about(plan: Plan) -> list[Row]:
    """The device and the libraries, in a row."""
    bench = Bench(plan)
    return [{"what": "device", **bench.tools.about(bench.device.handle)}]


if __name__ == "__main__":
    sys.exit(main())
