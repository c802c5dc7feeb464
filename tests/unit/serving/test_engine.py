from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semseg.errors import ArtifactError, BusyError, ClientLeftError
from semseg.inference.load import LoadedModel
from semseg.serving.engine import FAULTY, LOAD_FAILED, Engine
from semseg.types import Float32, UInt8


def later() -> float:
    """A minute from now: a limit that no test reaches, on any machine."""
    return time.monotonic() + 60


Loaded = Callable[..., LoadedModel]


def picture(value: int) -> UInt8:
    return np.full((1, 1, 3), value, np.uint8)


def test_loading_does_not_hold_up_the_caller_and_ends_in_ready(model: LoadedModel) -> None:
    may_load = threading.Event()

    def load() -> LoadedModel:
        may_load.wait(60)
        return model

    engine = Engine(load, queue=64)
    assert not engine.ready
    may_load.set()
    assert engine.description.num_classes == 3
    assert engine.ready


def test_predictions_come_from_the_model(model: LoadedModel) -> None:
    green = np.zeros((4, 5, 3), np.uint8)
    green[..., 1] = 255
    assert Engine(lambda: model, queue=64).predict(green, later()).labels().tolist() == [[1] * 5] * 4


def test_one_thread_loads_and_predicts_one_picture_after_the_other(loaded: Loaded) -> None:
    threads = set()
    at_work = threading.Lock()

    class Watched:
        def logits(self, images: Float32) -> Float32:
            assert at_work.acquire(blocking=False), "two pictures at a time"
            threads.add(threading.current_thread().name)
            at_work.release()
            return images[:, :, :1, :1]

    def load() -> LoadedModel:
        threads.add(threading.current_thread().name)
        return loaded(Watched())

    engine = Engine(load, queue=64)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda value: engine.predict(picture(value), later()), range(64)))
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_the_first_picture_after_loading_is_the_engine_s_own(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    sizes = []

    class Recorder:
        def logits(self, images: Float32) -> Float32:
            sizes.append(images.shape)
            return images[:, :, ::8, ::8]

    with caplog.at_level(logging.INFO):
        engine = Engine(lambda: loaded(Recorder()), queue=64)
        engine.predict(picture(0), later())
    assert sizes == [(1, 3, 64, 64), (1, 3, 1, 1)]
    assert caplog.messages == ["loading model...", "...model loaded."]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ArtifactError("/m holds no model.", "Give one."), "The model cannot be loaded: /m holds no model. Give one."),
        (RuntimeError("stack\n  of lines"), "The model cannot be loaded: stack of lines"),
        (MemoryError(), "The model cannot be loaded: MemoryError()"),
    ],
)
def test_a_failed_load_prints_one_line_and_ends_the_process(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> LoadedModel:
        raise error

    exits: list[int] = []
    engine = Engine(load, queue=64, exit_process=exits.append)
    with pytest.raises(type(error)):
        engine.predict(picture(0), later())
    assert exits == [LOAD_FAILED]
    assert not engine.ready
    assert capsys.readouterr().err == line + "\n"


def test_a_failed_warm_up_counts_as_a_failed_load(loaded: Loaded) -> None:
    class Broken:
        def logits(self, images: Float32) -> Float32:
            raise RuntimeError("no kernel for this device")

    exits: list[int] = []
    with pytest.raises(RuntimeError):
        Engine(lambda: loaded(Broken()), queue=64, exit_process=exits.append).predict(picture(0), later())
    assert exits == [LOAD_FAILED]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_computes_no_numbers_ends_the_start(
    loaded: Loaded, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def logits(self, images: Float32) -> Float32:
            return np.full((1, 3, *images[0, 0, ::8, ::8].shape), value, np.float32)

    exits: list[int] = []
    engine = Engine(lambda: loaded(Broken()), queue=64, exit_process=exits.append)
    with pytest.raises(ArtifactError):
        engine.predict(picture(0), later())
    assert exits == [LOAD_FAILED]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "The model cannot be loaded: The network of the model at hand computes values that are infin"
    )


def test_an_error_of_one_picture_reaches_its_client_alone(model: LoadedModel) -> None:
    engine = Engine(lambda: model, queue=64)
    with pytest.raises(ValueError, match="unpack"):
        engine.predict(np.zeros((2, 2), np.uint8), later())
    assert engine.ready
    assert engine.predict(picture(9), later()).labels().shape == (1, 1)


class Gate:
    """A network that works on a picture, but the one it warms up with, when it is let."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Semaphore(0), threading.Event()
        self.seen: list[int] = []

    def logits(self, images: Float32) -> Float32:
        if images.shape[2] != 64:
            self.seen.append(images.shape[3])
            self.begun.release()
            self.may_end.wait(60)
        return images[:, :, ::8, ::8]


def test_a_picture_that_the_network_does_not_come_to_in_time_is_dropped(loaded: Loaded) -> None:
    gate = Gate()
    engine = Engine(lambda: loaded(gate), queue=64)
    with ThreadPoolExecutor(1) as client:
        first = client.submit(engine.predict, np.zeros((1, 1, 3), np.uint8), later())
        assert gate.begun.acquire(timeout=60)
        with pytest.raises(BusyError, match="did not come to this picture") as caught:
            engine.predict(np.zeros((1, 2, 3), np.uint8), time.monotonic())
        assert caught.value.http_status == 503
        gate.may_end.set()
        assert first.result(60).labels().shape == (1, 1)
    assert engine.predict(np.zeros((1, 3, 3), np.uint8), later()).labels().shape == (1, 3)
    assert gate.seen == [1, 3]


def test_what_has_begun_is_finished_though_its_time_is_over(loaded: Loaded) -> None:
    gate = Gate()
    engine = Engine(lambda: loaded(gate), queue=0)
    assert engine.description
    with ThreadPoolExecutor(1) as client:
        begun = client.submit(engine.predict, picture(0), time.monotonic() + 0.2)
        assert gate.begun.acquire(timeout=60)
        with pytest.raises(TimeoutError):
            begun.result(0.5)
        gate.may_end.set()
        assert begun.result(60).labels().shape == (1, 1)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError()])
def test_ten_failures_in_a_row_end_the_process(
    loaded: Loaded, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Moody:
        """Fails for pictures that are wider than high."""

        def logits(self, images: Float32) -> Float32:
            if images.shape[3] > images.shape[2]:
                raise error
            return images[:, :, ::8, ::8]

    exits: list[int] = []
    engine = Engine(lambda: loaded(Moody()), queue=64, exit_process=exits.append)

    def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(type(error)):
                engine.predict(np.zeros((1, 2, 3), np.uint8), later())

    fail(9)
    engine.predict(picture(0), later())
    fail(9)
    assert exits == []
    assert "this process ends" not in caplog.text
    fail(1)
    assert exits == [FAULTY]
    assert "The last 10 predictions failed: this process ends" in caplog.text


@pytest.mark.parametrize(
    ("size", "patience"),
    [((1, 1), 600), ((1000, 4000), 1200), ((1, 500_000), 1200)],
    ids=["small picture", "large picture", "narrow picture"],
)
def test_a_prediction_without_end_ends_the_process_when_somebody_asks(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], patience: float
) -> None:
    gate, exits = Gate(), list[int]()
    engine = Engine(lambda: loaded(gate), queue=64, exit_process=exits.append)
    assert engine.description
    now = time.monotonic()

    def ask_at(moment: float) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("semseg.serving.engine.time.monotonic", lambda: moment)
            engine.end_if_stuck()

    with ThreadPoolExecutor(1) as client:
        begun = client.submit(engine.predict, np.zeros((*size, 3), np.uint8), later())
        assert gate.begun.acquire(timeout=60)
        ask_at(now + patience - 1)
        assert exits == []
        ask_at(now + patience + 60)
        assert exits == [FAULTY]
        gate.may_end.set()
        begun.result(60)
    ask_at(now + 1e6)
    assert exits == [FAULTY]


def test_the_line_has_so_many_places_and_one_for_the_picture_at_work(model: LoadedModel) -> None:
    engine = Engine(lambda: model, queue=2)
    with engine.place(), engine.place():
        engine.check_line()
        with engine.place():
            with pytest.raises(BusyError, match="3 pictures"):
                engine.check_line()
            with pytest.raises(BusyError, match="3 pictures") as caught, engine.place():
                pass
            assert caught.value.retry_after == 1
        with engine.place():
            pass


def test_nothing_is_predicted_for_a_client_that_has_left_when_its_turn_comes(loaded: Loaded) -> None:
    gate, left, exits = Gate(), threading.Event(), list[int]()
    engine = Engine(lambda: loaded(gate), queue=64, exit_process=exits.append)
    until = later()
    with ThreadPoolExecutor(21) as clients:
        first = clients.submit(engine.predict, np.zeros((1, 1, 3), np.uint8), until)
        assert gate.begun.acquire(timeout=60)
        gone = [clients.submit(engine.predict, np.zeros((1, 2, 3), np.uint8), until, left.is_set) for _ in range(20)]
        left.set()
        gate.may_end.set()
        assert first.result(60).labels().shape == (1, 1)
        for one in gone:
            with pytest.raises(ClientLeftError):
                one.result(60)
    assert engine.predict(np.zeros((1, 3, 3), np.uint8), until).labels().shape == (1, 3)
    assert gate.seen == [1, 3]
    assert exits == []  # who leaves is no fault of the engine


def test_who_has_left_keeps_no_place_in_a_full_line(model: LoadedModel) -> None:
    engine, left = Engine(lambda: model, queue=1), threading.Event()
    with engine.place(left.is_set), engine.place():
        with pytest.raises(BusyError):
            engine.check_line()
        left.set()
        with engine.place(), pytest.raises(BusyError):
            engine.check_line()
        engine.check_line()
    with engine.place(), engine.place(), pytest.raises(BusyError):
        engine.check_line()


def test_who_is_refused_learns_how_long_the_line_will_take(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(lambda: model, queue=2)
    clock = iter([100.0, 102.5])
    engine.predict(picture(0), later())
    monkeypatch.setattr(engine, "_seconds", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr("semseg.serving.engine.time.monotonic", lambda: next(clock))
        engine._predict(model, picture(0), lambda: False)
    with engine.place(), engine.place(), engine.place(), pytest.raises(BusyError) as caught:
        engine.check_line()
    assert caught.value.retry_after == 8
    monkeypatch.setattr(engine, "_seconds", 1000.0)
    with engine.place(), engine.place(), engine.place(), pytest.raises(BusyError) as caught:
        engine.check_line()
    assert caught.value.retry_after == 60
