from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semseg.errors import ArtifactError
from semseg.inference.load import LoadedModel
from semseg.serving.engine import LOAD_FAILED, Engine
from semseg.types import Float32, UInt8

Loaded = Callable[..., LoadedModel]


def picture(value: int) -> UInt8:
    return np.full((1, 1, 3), value, np.uint8)


def test_loading_does_not_hold_up_the_caller_and_ends_in_ready(model: LoadedModel) -> None:
    may_load = threading.Event()

    def load() -> LoadedModel:
        may_load.wait()
        return model

    engine = Engine(load)
    assert not engine.ready
    may_load.set()
    assert engine.description.num_classes == 3
    assert engine.ready


def test_predictions_come_from_the_model(model: LoadedModel) -> None:
    green = np.zeros((4, 5, 3), np.uint8)
    green[..., 1] = 255
    assert Engine(lambda: model).predict(green).labels().tolist() == [[1] * 5] * 4


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

    engine = Engine(load)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(engine.predict, [picture(value) for value in range(64)]))
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_the_first_picture_after_loading_is_the_engine_s_own(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    sizes = []

    class Recorder:
        def logits(self, images: Float32) -> Float32:
            sizes.append(images.shape)
            return images[:, :, ::8, ::8]

    with caplog.at_level(logging.INFO):
        engine = Engine(lambda: loaded(Recorder()))
        engine.predict(picture(0))
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
    engine = Engine(load, exit_process=exits.append)
    with pytest.raises(type(error)):
        engine.predict(picture(0))
    assert exits == [LOAD_FAILED]
    assert not engine.ready
    assert capsys.readouterr().err == line + "\n"


def test_a_failed_warm_up_counts_as_a_failed_load(loaded: Loaded) -> None:
    class Broken:
        def logits(self, images: Float32) -> Float32:
            raise RuntimeError("no kernel for this device")

    exits: list[int] = []
    with pytest.raises(RuntimeError):
        Engine(lambda: loaded(Broken()), exit_process=exits.append).predict(picture(0))
    assert exits == [LOAD_FAILED]


def test_an_error_of_one_picture_reaches_its_client_alone(model: LoadedModel) -> None:
    engine = Engine(lambda: model)
    with pytest.raises(ValueError, match="unpack"):
        engine.predict(np.zeros((2, 2), np.uint8))
    assert engine.ready
    assert engine.predict(picture(9)).labels().shape == (1, 1)
