from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.errors import ArtifactError, BusyError, ClientLeftError
from semseg.inference.load import LoadedModel
from semseg.serving.prediction_queue import PredictionQueue, QueueListener
from semseg.types import Float32, UInt8


def later() -> float:
    """A deadline in a minute, which no test reaches on any machine."""
    return time.monotonic() + 60


Loaded = Callable[..., LoadedModel]


def pixel(value: int) -> UInt8:
    return np.full((1, 1, 3), value, np.uint8)


class Recorded(QueueListener):
    """A listener that records the events, in order."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def loaded(self, model: LoadedModel) -> None:
        self.events.append(model)

    def load_failed(self, error: BaseException) -> None:
        self.events.append(error)

    def keeps_failing(self, count: int, error: Exception) -> None:
        self.events.append((count, error))

    def stuck(self) -> None:
        self.events.append("stuck")


def test_loading_does_not_hold_up_the_caller_and_ends_in_ready(model: LoadedModel) -> None:
    may_load = threading.Event()

    def load() -> LoadedModel:
        may_load.wait(60)
        return model

    queue = PredictionQueue(load, max_waiting=64)
    assert not queue.ready
    may_load.set()
    assert queue.description.num_classes == 3
    assert queue.ready


def test_predictions_come_from_the_model(model: LoadedModel) -> None:
    green = np.zeros((4, 5, 3), np.uint8)
    green[..., 1] = 255
    assert PredictionQueue(lambda: model, max_waiting=64).predict(green, later()).labels().tolist() == [[1] * 5] * 4


def test_one_thread_loads_and_predicts_one_image_after_the_other(loaded: Loaded) -> None:
    threads = set()
    at_work = threading.Lock()

    class Watched(OnHost):
        def logits(self, images: Float32) -> Float32:
            assert at_work.acquire(blocking=False), "two images at a time"
            threads.add(threading.current_thread().name)
            at_work.release()
            return images[:, :, :1, :1]

    def load() -> LoadedModel:
        threads.add(threading.current_thread().name)
        return loaded(Watched())

    queue = PredictionQueue(load, max_waiting=64)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda value: queue.predict(pixel(value), later()), range(64)))
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_the_first_image_after_loading_is_the_queue_s_own(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    sizes = []

    class Recorder(OnHost):
        def logits(self, images: Float32) -> Float32:
            sizes.append(images.shape)
            return images[:, :, ::8, ::8]

    with caplog.at_level(logging.INFO):
        queue = PredictionQueue(lambda: loaded(Recorder()), max_waiting=64)
        queue.predict(pixel(0), later())
    assert sizes == [(1, 3, 64, 64), (1, 3, 1, 1)]
    assert caplog.messages == ["loading model...", "...model loaded."]


def test_the_listener_hears_of_the_model_before_the_queue_is_ready(model: LoadedModel) -> None:
    ready: list[bool] = []

    class Asks(Recorded):
        def loaded(self, model: LoadedModel) -> None:
            super().loaded(model)
            ready.append(queue_made.wait(60) and queue.ready)

    queue_made, recorded = threading.Event(), Asks()
    queue = PredictionQueue(lambda: model, max_waiting=64, listener=recorded)
    queue_made.set()
    assert queue.description
    assert recorded.events == [model]
    assert ready == [False]


@pytest.mark.parametrize("error", [ArtifactError("/m holds no model.", "Give one."), RuntimeError("x"), MemoryError()])
def test_a_failed_load_is_reported_and_raised(error: Exception) -> None:
    def load() -> LoadedModel:
        raise error

    recorded = Recorded()
    queue = PredictionQueue(load, max_waiting=64, listener=recorded)
    with pytest.raises(type(error)):
        queue.predict(pixel(0), later())
    assert recorded.events == [error]
    assert not queue.ready


def test_a_failed_warm_up_counts_as_a_failed_load(loaded: Loaded) -> None:
    class Broken(OnHost):
        def logits(self, images: Float32) -> Float32:
            raise RuntimeError("no kernel for this device")

    recorded = Recorded()
    with pytest.raises(RuntimeError) as caught:
        PredictionQueue(lambda: loaded(Broken()), max_waiting=64, listener=recorded).predict(pixel(0), later())
    assert recorded.events == [caught.value]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_computes_no_numbers_counts_as_a_failed_load(loaded: Loaded, value: float) -> None:
    class Broken(OnHost):
        def logits(self, images: Float32) -> Float32:
            return np.full((1, 3, *images[0, 0, ::8, ::8].shape), value, np.float32)

    recorded = Recorded()
    queue = PredictionQueue(lambda: loaded(Broken()), max_waiting=64, listener=recorded)
    with pytest.raises(
        ArtifactError, match=r"^The network of the model at hand computes values that are infin"
    ) as caught:
        queue.predict(pixel(0), later())
    assert recorded.events == [caught.value]


def test_an_error_of_one_image_reaches_its_client_alone(model: LoadedModel) -> None:
    queue = PredictionQueue(lambda: model, max_waiting=64)
    with pytest.raises(ValueError, match="unpack"):
        queue.predict(np.zeros((2, 2), np.uint8), later())
    assert queue.ready
    assert queue.predict(pixel(9), later()).labels().shape == (1, 1)


class Gate(OnHost):
    """A network that waits for `may_end` with each image but that of the warm-up."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Semaphore(0), threading.Event()
        self.widths: list[int] = []

    def logits(self, images: Float32) -> Float32:
        if images.shape[2] != 64:
            self.widths.append(images.shape[3])
            self.begun.release()
            self.may_end.wait(60)
        return images[:, :, ::8, ::8]


def test_an_image_that_the_network_does_not_come_to_in_time_is_dropped(loaded: Loaded) -> None:
    gate = Gate()
    queue = PredictionQueue(lambda: loaded(gate), max_waiting=64)
    with ThreadPoolExecutor(1) as client:
        first = client.submit(queue.predict, np.zeros((1, 1, 3), np.uint8), later())
        assert gate.begun.acquire(timeout=60)
        with pytest.raises(BusyError, match="turn of this image") as caught:
            queue.predict(np.zeros((1, 2, 3), np.uint8), time.monotonic())
        assert caught.value.http_status == 503
        gate.may_end.set()
        assert first.result(60).labels().shape == (1, 1)
    assert queue.predict(np.zeros((1, 3, 3), np.uint8), later()).labels().shape == (1, 3)
    assert gate.widths == [1, 3]


def test_what_has_begun_is_finished_though_its_time_is_over(loaded: Loaded) -> None:
    gate = Gate()
    queue = PredictionQueue(lambda: loaded(gate), max_waiting=0)
    assert queue.description
    with ThreadPoolExecutor(1) as client:
        begun = client.submit(queue.predict, pixel(0), time.monotonic() + 0.2)
        assert gate.begun.acquire(timeout=60)
        with pytest.raises(TimeoutError):
            begun.result(0.5)
        gate.may_end.set()
        assert begun.result(60).labels().shape == (1, 1)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError()])
def test_ten_failures_in_a_row_are_reported(loaded: Loaded, error: Exception) -> None:
    class Moody(OnHost):
        """Fails for images that are wider than high."""

        def logits(self, images: Float32) -> Float32:
            if images.shape[3] > images.shape[2]:
                raise error
            return images[:, :, ::8, ::8]

    recorded = Recorded()
    queue = PredictionQueue(lambda: loaded(Moody()), max_waiting=64, listener=recorded)

    def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(type(error)):
                queue.predict(np.zeros((1, 2, 3), np.uint8), later())

    fail(9)
    queue.predict(pixel(0), later())
    fail(9)
    assert not any(isinstance(event, tuple) for event in recorded.events)
    fail(1)
    assert recorded.events[1:] == [(10, error)]


@pytest.mark.parametrize(
    ("size", "patience"),
    [((1, 1), 600), ((1000, 4000), 1200), ((1, 500_000), 1200)],
    ids=["small image", "large image", "narrow image"],
)
def test_a_prediction_without_end_is_reported_on_request(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], patience: float
) -> None:
    gate, recorded = Gate(), Recorded()
    queue = PredictionQueue(lambda: loaded(gate), max_waiting=64, listener=recorded)
    assert queue.description
    now = time.monotonic()

    def ask_at(moment: float) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("semseg.serving.prediction_queue.time.monotonic", lambda: moment)
            queue.report_if_stuck()

    with ThreadPoolExecutor(1) as client:
        begun = client.submit(queue.predict, np.zeros((*size, 3), np.uint8), later())
        assert gate.begun.acquire(timeout=60)
        ask_at(now + patience - 1)
        assert "stuck" not in recorded.events
        ask_at(now + patience + 60)
        assert recorded.events[1:] == ["stuck"]
        gate.may_end.set()
        begun.result(60)
    ask_at(now + 1e6)
    assert recorded.events[1:] == ["stuck"]


def test_the_queue_has_so_many_places_and_one_for_the_image_at_work(model: LoadedModel) -> None:
    queue = PredictionQueue(lambda: model, max_waiting=2)
    with queue.place(), queue.place():
        queue.require_place()
        with queue.place():
            with pytest.raises(BusyError, match="3 images"):
                queue.require_place()
            with pytest.raises(BusyError, match="3 images") as caught, queue.place():
                pass
            assert caught.value.retry_after == 1
        with queue.place():
            pass


def test_nothing_is_predicted_for_a_client_that_has_left_when_its_turn_comes(loaded: Loaded) -> None:
    gate, left, recorded = Gate(), threading.Event(), Recorded()
    queue = PredictionQueue(lambda: loaded(gate), max_waiting=64, listener=recorded)
    until = later()
    with ThreadPoolExecutor(21) as clients:
        first = clients.submit(queue.predict, np.zeros((1, 1, 3), np.uint8), until)
        assert gate.begun.acquire(timeout=60)
        gone = [clients.submit(queue.predict, np.zeros((1, 2, 3), np.uint8), until, left.is_set) for _ in range(20)]
        left.set()
        gate.may_end.set()
        assert first.result(60).labels().shape == (1, 1)
        for future in gone:
            with pytest.raises(ClientLeftError):
                future.result(60)
    assert queue.predict(np.zeros((1, 3, 3), np.uint8), until).labels().shape == (1, 3)
    assert gate.widths == [1, 3]
    assert len(recorded.events) == 1  # loaded; clients that leave are not failures of the engine


def test_a_client_that_has_left_keeps_no_place_in_a_full_queue(model: LoadedModel) -> None:
    queue, left = PredictionQueue(lambda: model, max_waiting=1), threading.Event()
    with queue.place(left.is_set), queue.place():
        with pytest.raises(BusyError):
            queue.require_place()
        left.set()
        with queue.place(), pytest.raises(BusyError):
            queue.require_place()
        queue.require_place()
    with queue.place(), queue.place(), pytest.raises(BusyError):
        queue.require_place()


@pytest.mark.parametrize(("seconds", "retry_after"), [(2.5, 8), (1000.0, 60)])
def test_a_refusal_says_how_long_the_queue_will_take(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, seconds: float, retry_after: int
) -> None:
    """Three images, by the time that an earlier one took, and no more than a minute."""
    now = [100.0]

    class Slow(OnHost):
        def logits(self, images: Float32) -> Float32:
            now[0] += seconds
            return images[:, :, ::8, ::8]

    queue = PredictionQueue(lambda: loaded(Slow()), max_waiting=2)
    assert queue.description
    monkeypatch.setattr("semseg.serving.prediction_queue.time.monotonic", lambda: now[0])
    queue.predict(pixel(0), until=now[0] + 60)
    with queue.place(), queue.place(), queue.place(), pytest.raises(BusyError) as caught:
        queue.require_place()
    assert caught.value.retry_after == retry_after
