"""The one thread that loads the model and runs it, while the threads of requests wait."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from semseg.artifact.model_dir import ModelDescription
from semseg.errors import SemsegError
from semseg.inference.load import LoadedModel
from semseg.types import Prediction, UInt8

logger = logging.getLogger(__name__)

LOAD_FAILED = 3
"""The exit code of a worker that makes gunicorn end, with the same code, instead of starting another."""

_WARM_UP_SIZE = 64


class Engine:
    """One device's model. Loading starts at once, in the thread that later predicts, picture after picture."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        exit_process: Callable[[int], object] = os._exit,
        on_ready: Callable[[], object] = lambda: None,
    ) -> None:
        """load: makes the model ready; exit_process: ends the server, with LOAD_FAILED, when that fails.

        on_ready: is called once the model is loaded and warm.
        """
        self._load = load
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

    def predict(self, image: UInt8) -> Prediction:
        """Run the network on RGB uint8 (H, W, 3), after the pictures that came before; waits until it has."""
        return self._thread.submit(self._model.result().predictor.predict, image).result()

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
