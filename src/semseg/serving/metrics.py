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
"""The variable that names a folder for what several processes count; prometheus_client reads it when it is imported."""

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


def count_at(place: int) -> None:
    """Have this process, one of several, count in the files of a place instead of its own id; before it has Metrics."""
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


class Metrics:
    """The counters of one process, of which there may be several."""

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
        self.in_flight = self._gauge("semseg_in_flight", "Invocations that are not answered in full.")
        self.queued = self._gauge("semseg_queue", "Pictures that are being segmented or wait for it.")
        self._memory = self._gauge("semseg_resident_memory_bytes", "Memory of the worker processes.")
        self._model = Gauge(
            "semseg_model_info",
            "1, for what is served.",
            ["algorithm", "backbone", "num_classes", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def text(self, model: ModelDescription | None) -> bytes:
        """All numbers of all processes, in Prometheus' text format; model: what is served, once it is loaded."""
        if model:
            self._model.labels(model.network.name, model.backbone.name, model.num_classes, __version__).set(1)
        self.note_memory()
        if DIRECTORY not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def note_memory(self) -> None:
        """Records how much memory this process has now, for whichever process is asked next, if a file is to be had."""
        with suppress(OSError):
            self._memory.set(_resident_bytes())

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry, multiprocess_mode="livesum")


def _resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0
