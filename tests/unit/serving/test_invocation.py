"""One Invocation for several models, which test_app.py does not test."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import OnHost
from flask import Flask, Response
from PIL import Image

from semseg.errors import BusyError
from semseg.inference.load import LoadedModel
from semseg.inference.memory import request_bytes
from semseg.serving.answers import answer_to
from semseg.serving.invocation import Invocation
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.metrics import Metrics
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.request_record import INVOCATIONS, RequestRecord
from semseg.serving.settings import Settings
from semseg.types import Float32

WIDTH, HEIGHT = 30, 20
NPY = answer_to("application/x-npy")


class Even(OnHost):
    """A network of a number of classes, all equally probable."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes

    def logits(self, images: Float32) -> Float32:
        return np.zeros((1, self._num_classes, *images[0, 0, ::8, ::8].shape), np.float32)


class Models:
    """One Invocation, and its requests to any queue."""

    def __init__(self) -> None:
        self.budget = MemoryBudget(200_000)
        self.responses = ExitStack()
        self._invocation = Invocation(Settings(Path("/nowhere")), self.budget, Metrics(), lambda _: False)
        self._app = Flask("several models")
        file = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT)).save(file, "PNG")
        self.body = file.getvalue()

    def ask(self, queue: PredictionQueue) -> Response:
        """The response of a model, which is closed at the end of the test unless the test closes it before."""
        with self._app.test_request_context(INVOCATIONS, method="POST", data=self.body):
            response = self._invocation.respond(queue, NPY, RequestRecord(INVOCATIONS, ""))
        self.responses.callback(response.close)
        return response

    def leaves(self, size: int) -> bool:
        """Whether another `size` bytes are free."""
        try:
            with self.budget.images.reserve(size, until=time.monotonic()):
                return True
        except BusyError:
            return False


@pytest.fixture
def models() -> Iterator[Models]:
    made = Models()
    with made.responses:
        yield made


def queue_of(num_classes: int, loaded: Callable[..., LoadedModel]) -> PredictionQueue:
    queue = PredictionQueue(lambda: loaded(Even(num_classes), num_classes=num_classes), max_waiting=9)
    assert queue.description
    return queue


def held_for(num_classes: int) -> int:
    return request_bytes(num_classes, HEIGHT, WIDTH, 8, NPY.memory(num_classes))


def array(response: Response) -> Any:
    return np.load(io.BytesIO(response.get_data()), allow_pickle=False)


def test_requests_for_two_models_share_one_budget(models: Models, loaded: Callable[..., LoadedModel]) -> None:
    first, second = queue_of(5, loaded), queue_of(9, loaded)
    free = models.budget.images.limit
    one, other = models.ask(first), models.ask(second)
    assert models.leaves(free - held_for(5) - held_for(9))
    assert not models.leaves(free - held_for(5) - held_for(9) + 1)
    assert array(one).shape == (5, HEIGHT, WIDTH)
    assert array(other).shape == (9, HEIGHT, WIDTH)
    one.close()
    assert models.leaves(free - held_for(9))
    assert not models.leaves(free - held_for(9) + 1)


def test_the_body_of_a_request_for_one_model_leaves_less_to_those_of_others(
    models: Models, loaded: Callable[..., LoadedModel]
) -> None:
    second = queue_of(9, loaded)

    class Asks(Even):
        """Sends a request to the other model while it segments an image whose body fills the memory for bodies."""

        def logits(self, images: Float32) -> Float32:
            if images.shape[2:] != (64, 64):
                with pytest.raises(BusyError, match="bodies"):
                    models.ask(second)
                asked.append(True)
            return super().logits(images)

    asked: list[bool] = []
    first = PredictionQueue(lambda: loaded(Asks(3)), max_waiting=9)
    assert first.description
    models.body += bytes(models.budget.bodies.limit - len(models.body))
    assert array(models.ask(first)).shape == (3, HEIGHT, WIDTH)
    assert asked == [True]
    models.body = models.body[:1000]
    assert array(models.ask(second)).shape == (9, HEIGHT, WIDTH)


def test_a_full_queue_of_one_model_does_not_refuse_requests_for_another(
    models: Models, loaded: Callable[..., LoadedModel]
) -> None:
    first, second = queue_of(5, loaded), queue_of(9, loaded)
    with ExitStack() as places:
        for _ in range(10):
            places.enter_context(first.place())
        with pytest.raises(BusyError, match="10 images"):
            models.ask(first)
        assert array(models.ask(second)).shape == (9, HEIGHT, WIDTH)
