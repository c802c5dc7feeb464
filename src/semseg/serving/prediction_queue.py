"""The queue of requests for one model: a single thread loads the model and runs it, image after image.

Nothing here ends a process: what happens to the model is reported to a listener, which decides what to do.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np

from semseg.artifact.model_dir import ModelDescription
from semseg.errors import BusyError, ClientLeftError
from semseg.inference.load import LoadedModel
from semseg.inference.scaling import UNSCALED, Scale
from semseg.inference.tiling import computed_pixels
from semseg.types import Prediction, UInt8

logger = logging.getLogger(__name__)

_FAILURES = 10
"""This number of failed predictions in a row is the engine's fault, not that of the images, which are decoded by then:
a CUDA error lasts as long as the process, and so may a lack of memory."""

_STUCK_SECONDS, _STUCK_SECONDS_PER_PIXEL = 600.0, 3e-4
"""A prediction counts as stuck after the larger of the two: ten times a request's usual time, and ten times what PSP on
ResNet-101 takes with MXNet on one core, 31 microseconds per pixel [measured]."""

_WARM_UP_SIZE = 64
_MAX_RETRY_AFTER = 60
"""Seconds; the most that Retry-After asks a client to wait."""


def _never_leaves() -> bool:
    """Says that the client has not left; for callers without a client."""
    return False


def require_client(left: Callable[[], bool]) -> None:
    """Raises ClientLeftError if the client has left: nobody would receive the result."""
    if left():
        raise ClientLeftError(
            "The client has closed the connection, or its half of it.", "Keep it open until the answer has arrived."
        )


class QueueListener:
    """Is notified of what happens to a queue's model, in the thread where it happens; this base class does nothing."""

    def loaded(self, model: LoadedModel) -> None:
        """The model is loaded and warm; the queue is ready when this returns."""

    def load_failed(self, error: BaseException) -> None:
        """The model could not be loaded or warmed up: the queue will never be ready."""

    def keeps_failing(self, count: int, error: Exception) -> None:
        """The last `count` predictions have failed, the latest of them with `error`."""

    def stuck(self) -> None:
        """The current prediction takes longer than any does on a machine that works."""


class PredictionQueue:
    """The queue of images for one model. Loading starts at once, in the thread that later predicts."""

    def __init__(
        self, load: Callable[[], LoadedModel], max_waiting: int, listener: QueueListener | None = None
    ) -> None:
        """load: returns the model; max_waiting: the number of images that may wait while another is segmented."""
        self._load = load
        self._places = 1 + max_waiting
        self._listener = listener or QueueListener()
        self._queue: list[Callable[[], bool]] = []  # for each request in it, a test of whether its client has left
        self._lock = threading.RLock()
        self._seconds = 0.0
        self._failures = 0
        self._stuck_at = math.inf
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predictions")
        self._model = self._thread.submit(self._load_and_warm_up)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._model.done() and self._model.exception() is None

    @property
    def loaded(self) -> LoadedModel:
        """The model; waits until it is loaded, and raises what loading raised."""
        return self._model.result()

    @property
    def description(self) -> ModelDescription:
        """The model's description; waits until it is loaded, and raises what loading raised."""
        return self._model.result().description

    @property
    def scale(self) -> Scale:
        """The size at which the network gets images unless a request says otherwise; waits as `description` does."""
        return self._model.result().predictor.scale

    def report_if_stuck(self) -> None:
        """Reports to the listener if the current prediction takes longer than any does on a machine that works.

        Requests of all paths call it: the stuck thread cannot.
        """
        if time.monotonic() > self._stuck_at:
            self._listener.stuck()

    def require_place(self) -> None:
        """Raises BusyError if the queue is full; an early check, before a request's body is read.

        A full queue first drops the requests whose clients have left.
        """
        with self._lock:
            if len(self._queue) >= self._places:
                self._queue = [left for left in self._queue if not left()]
            if len(self._queue) >= self._places:
                raise BusyError(
                    f"{self._places} images are being segmented or waiting already.",
                    "Try again later, or serve with more machines; SEMSEG_QUEUE sets how many may wait.",
                    self._retry_after(),
                )

    @contextmanager
    def place(self, left: Callable[[], bool] = _never_leaves) -> Iterator[None]:
        """Hold a place in the queue for the block. Raises BusyError if it is full.

        left: whether the client has left; other threads call it.
        """
        with self._lock:
            self.require_place()
            self._queue.append(left)
        try:
            yield
        finally:
            with self._lock, suppress(ValueError):
                self._queue.remove(left)

    def predict(
        self, image: UInt8, until: float, left: Callable[[], bool] = _never_leaves, scale: Scale | None = None
    ) -> Prediction:
        """Run the network on an RGB image, uint8 (H, W, 3), after those that came before; returns when it has run.

        left: whether the client has left; another thread calls it. scale: the size at which the network gets the image,
        None for the model's. Raises ClientLeftError if the client has left by the image's turn, and BusyError if the
        network has not begun by `until`, on time.monotonic's clock. A prediction that has begun is finished.
        """
        future = self._thread.submit(self._predict, self._model.result(), image, left, scale)
        try:
            return future.result(until - time.monotonic())
        except TimeoutError:
            if not future.cancel():
                return future.result()
            raise BusyError(
                "The turn of this image did not come within the time that a request has.",
                "Try again later, or allow more time with SAGEMAKER_MODEL_SERVER_TIMEOUT.",
                self._retry_after(),
            ) from None

    def _predict(self, model: LoadedModel, image: UInt8, left: Callable[[], bool], scale: Scale | None) -> Prediction:
        require_client(left)
        height, width = (scale or model.predictor.scale).size(image.shape[0], image.shape[1])
        begin, pixels = time.monotonic(), computed_pixels(height, width, model.description.network.stride)
        self._stuck_at = begin + max(_STUCK_SECONDS, _STUCK_SECONDS_PER_PIXEL * pixels)
        try:
            prediction = model.predictor.predict(image, scale)
        except Exception as error:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._listener.keeps_failing(self._failures, error)
            raise
        finally:
            self._stuck_at = math.inf
        self._failures = 0
        latest = time.monotonic() - begin
        self._seconds = 0.8 * self._seconds + 0.2 * latest if self._seconds else latest
        return prediction

    def _retry_after(self) -> int:
        """Seconds that the current queue will take."""
        return min(max(1, math.ceil(len(self._queue) * self._seconds)), _MAX_RETRY_AFTER)

    def _load_and_warm_up(self) -> LoadedModel:
        try:
            logger.info("loading model...")
            model = self._load()
            # The first image is slow: the network's graph and the kernels' scratch memory are made for it.
            model.predictor.predict(np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8), UNSCALED).labels()
            logger.info("...model loaded.")
            self._listener.loaded(model)
            return model
        except BaseException as error:
            self._listener.load_failed(error)
            raise
