"""The one thread that loads the model and runs it, while the threads of requests wait in a line of limited length."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np

from semseg.artifact.model_dir import ModelDescription
from semseg.errors import BusyError, ClientLeftError, SemsegError
from semseg.inference.load import LoadedModel
from semseg.inference.tiling import computed_pixels
from semseg.types import Prediction, UInt8

logger = logging.getLogger(__name__)

LOAD_FAILED = 3
"""The exit code of a worker that makes gunicorn end, with the same code, instead of starting another."""

FAULTY = 1
"""The exit code of a worker whose engine is broken or stuck: gunicorn starts another."""

_FAILURES = 10
"""So many predictions in a row that raise are the engine's fault, not that of pictures, which are decoded by then: an
error of CUDA lasts as long as the process, and so may a lack of memory."""

_STUCK_SECONDS, _STUCK_SECONDS_A_PIXEL = 600.0, 3e-4
"""A prediction is stuck after so many in all, or so many for each pixel if that is more: ten times a request's usual
time, and ten times what PSP on ResNet-101 takes with MXNet on one core, 31 microseconds [measured]."""

_WARM_UP_SIZE = 64
_LONGEST_ADVICE = 60
"""Seconds: nobody is told to stay away for longer."""


def _stays() -> bool:
    """Of a client that never leaves."""
    return False


def require_client(left: Callable[[], bool]) -> None:
    """Raises ClientLeftError if the client has left: nobody is there for what would be computed."""
    if left():
        raise ClientLeftError(
            "The client has closed the connection, or its half of it.", "Keep it open until the answer is there."
        )


class Engine:
    """One device's model. Loading starts at once, in the thread that later predicts, picture after picture."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        queue: int,
        exit_process: Callable[[int], object] = os._exit,
        on_ready: Callable[[], object] = lambda: None,
    ) -> None:
        """load: makes the model ready; queue: how many pictures may wait while the network has one.

        exit_process: ends the server, with LOAD_FAILED, when loading fails, and this process, with FAULTY, when
        predictions only fail or one never ends. on_ready: is called once the model is loaded and warm.
        """
        self._load = load
        self._places = 1 + queue
        self._waiting: list[Callable[[], bool]] = []  # of each in the line, whether its client has left
        self._counting = threading.RLock()
        self._seconds = 0.0
        self._failures = 0
        self._stuck_at = math.inf
        self._on_ready = on_ready
        self._exit_process = exit_process
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._model = self._thread.submit(self._load_or_exit)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._model.done() and self._model.exception() is None

    @property
    def description(self) -> ModelDescription:
        """Of the model; waits until it is loaded."""
        return self._model.result().description

    @property
    def memory(self) -> int:
        """Bytes for pictures and answers; waits until the model is loaded."""
        return self._model.result().memory

    def end_if_stuck(self) -> None:
        """End the process when the prediction under way takes longer than one does on any machine that works.

        It is for requests to call, whatever they ask: the thread that is stuck cannot.
        """
        if time.monotonic() > self._stuck_at:
            logger.critical("The engine is stuck in a prediction: this process ends, and another takes over.")
            self._exit_process(FAULTY)

    def check_line(self) -> None:
        """Raises BusyError when there is no place in the line now, for who will need one later.

        When it is full, those whose clients have left lose their places.
        """
        with self._counting:
            if len(self._waiting) >= self._places:
                self._waiting = [left for left in self._waiting if not left()]
            if len(self._waiting) >= self._places:
                raise BusyError(
                    f"{self._places} pictures are being segmented or wait already.",
                    "Ask again later, or serve with more machines; SEMSEG_QUEUE sets how many may wait.",
                    self._advice(),
                )

    @contextmanager
    def place(self, left: Callable[[], bool] = _stays) -> Iterator[None]:
        """A place in the line for the block. Raises BusyError when there is none.

        left: whether the client has left, for another thread to ask.
        """
        with self._counting:
            self.check_line()
            self._waiting.append(left)
        try:
            yield
        finally:
            with self._counting, suppress(ValueError):
                self._waiting.remove(left)

    def predict(self, image: UInt8, until: float, left: Callable[[], bool] = _stays) -> Prediction:
        """Run the network on RGB uint8 (H, W, 3), after the pictures that came before; waits until it has.

        left: whether the client has left, for another thread to ask. Raises ClientLeftError when it has by then, and
        BusyError when the network has not begun by `until`, on time.monotonic's clock. What has begun is finished.
        """
        future = self._thread.submit(self._predict, self._model.result(), image, left)
        try:
            return future.result(until - time.monotonic())
        except TimeoutError:
            if not future.cancel():
                return future.result()
            raise BusyError(
                "The network did not come to this picture in the time a request has.",
                "Ask again later, or allow more with SAGEMAKER_MODEL_SERVER_TIMEOUT.",
                self._advice(),
            ) from None

    def _predict(self, model: LoadedModel, image: UInt8, left: Callable[[], bool]) -> Prediction:
        require_client(left)
        height, width, _ = image.shape
        begin, pixels = time.monotonic(), computed_pixels(height, width, model.description.network.stride)
        self._stuck_at = begin + max(_STUCK_SECONDS, _STUCK_SECONDS_A_PIXEL * pixels)
        try:
            prediction = model.predictor.predict(image)
        except Exception:
            self._failures += 1
            if self._failures >= _FAILURES:
                logger.critical(
                    "The last %d predictions failed: this process ends, and another takes over.",
                    _FAILURES,
                    exc_info=True,
                )
                self._exit_process(FAULTY)
            raise
        finally:
            self._stuck_at = math.inf
        self._failures = 0
        latest = time.monotonic() - begin
        self._seconds = 0.8 * self._seconds + 0.2 * latest if self._seconds else latest
        return prediction

    def _advice(self) -> int:
        """Seconds in which the line as it is will be worked off."""
        return min(max(1, math.ceil(len(self._waiting) * self._seconds)), _LONGEST_ADVICE)

    def _load_or_exit(self) -> LoadedModel:
        try:
            logger.info("loading model...")
            model = self._load()
            # The first picture is the slow one: the network's graph and the kernels' scratch memory are made for it.
            model.predictor.predict(np.zeros((_WARM_UP_SIZE, _WARM_UP_SIZE, 3), np.uint8)).labels()
            logger.info("...model loaded.")
            self._on_ready()
            return model
        except BaseException as error:
            if not isinstance(error, SemsegError):
                logger.exception("A defect, or a broken machine:")
            reason = " ".join((str(error) or repr(error)).split())
            print(f"The model cannot be loaded: {reason}", file=sys.stderr, flush=True)
            self._exit_process(LOAD_FAILED)
            raise
