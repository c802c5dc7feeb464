"""The numbers that /metrics reports to Prometheus, right with several worker processes too."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values

from semseg.artifact.model_dir import ModelDescription
from semseg.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder of several processes' counts; prometheus_client reads it on import."""

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


def count_in_slot(slot: int) -> None:
    """Make this process, one of several, count in the files of a slot, not of its process id. Call before Metrics()."""
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one process; `text` adds up those of all processes."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "semseg_requests", "Answers, by path and HTTP status.", ["path", "status"], registry=registry
        )
        self.stages = Histogram(
            "semseg_stage_seconds",
            "Seconds of an invocation: receive, wait (for memory), decode, network (with its queue), encode, send.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.megapixels = Counter("semseg_megapixels", "Megapixels segmented.", registry=registry)
        self.in_flight = self._gauge("semseg_in_flight", "Invocations whose answer is not complete.")
        self.queued = self._gauge("semseg_queue", "Images that are being segmented or waiting.")
        self._memory = self._gauge("semseg_resident_memory_bytes", "Memory of the worker processes.")
        self._model = Gauge(
            "semseg_model_info",
            "1, with the served model as labels.",
            ["algorithm", "backbone", "num_classes", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def text(self, model: ModelDescription | None) -> bytes:
        """All metrics of all processes in Prometheus' text format; model: the served model, once it is loaded."""
        if model:
            self._model.labels(model.network.name, model.backbone.name, model.num_classes, __version__).set(1)
        self.note_memory()
        if DIRECTORY not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def note_memory(self) -> None:
        """Records this process's memory for the next report by any process; skipped if no file can be opened."""
        with suppress(OSError):
            self._memory.set(_resident_bytes())

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry, multiprocess_mode="livesum")


def _resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0
