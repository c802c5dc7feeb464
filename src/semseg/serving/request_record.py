"""Records one request for the metrics and the log."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from semseg.sagemaker import log_lines
from semseg.serving.metrics import Metrics

logger = logging.getLogger(__name__)

INVOCATIONS = "/invocations"


@dataclass
class RequestRecord:
    """What is known of a request and its response so far. Times are in seconds."""

    path: str
    inference_id: str
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    begin: float = field(default_factory=time.time)
    stages: dict[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    """Width and height of the image."""
    received: int = 0
    """Bytes of the body."""

    media_type: str = ""
    """That of a prediction, once it is there."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the duration of the block to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begin

    def end(self, status: int, known_path: bool, metrics: Metrics, log: str) -> None:
        """Counts and logs the request, once its answer is complete; known_path: whether the server has its path.

        log: the log line of an invocation: `short` for people, `json` for an object with ids and times, `none`, or else
        that of the built-in algorithm.
        """
        metrics.requests.labels(self.path if known_path else "other", status).inc()
        metrics.note_memory()
        if self.path != INVOCATIONS:
            return
        for name, seconds in self.stages.items():
            metrics.stages.labels(name).observe(seconds)
        if status == 200 and self.size:
            metrics.megapixels.inc(self.size[0] * self.size[1] / 1e6)
        if log == "short":
            logger.info(self._as_text(status))
        elif log == "json":
            logger.info(json.dumps(self._as_json(status)))
        elif log != "none":
            logger.info(log_lines.scoring(self.begin, time.time()))

    def _as_text(self, status: int) -> str:
        size = f"{self.size[0]} x {self.size[1]}" if self.size else ""
        parts = [str(status), self.media_type, size, f"{1000 * (time.time() - self.begin):.0f} ms"]
        return "  ".join(filter(None, parts))

    def _as_json(self, status: int) -> dict[str, object]:
        return {
            "time": round(self.begin, 3),
            "request_id": self.request_id,
            "inference_id": self.inference_id,
            "status": status,
            "size": self.size,
            "received_bytes": self.received,
            "seconds": round(time.time() - self.begin, 6),
            "stages": {name: round(seconds, 6) for name, seconds in self.stages.items()},
        }
