from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from semseg.errors import ArtifactError, DiskFullError, ImageError, UserError
from semseg.offline import pipeline
from semseg.offline.pipeline import Stages


def same(item: int) -> int:
    return item


def test_results_come_in_order_and_the_network_has_one_thread() -> None:
    threads = set()

    def compute(item: int) -> int:
        threads.add(threading.current_thread())
        return 10 * item

    stages: Stages[int, int, int, int] = Stages(lambda item: item + 1, compute, lambda item: -item, lambda _: 1)
    run = pipeline.run(stages, range(50), 100, 3)
    assert list(run) == [(item, -10 * (item + 1)) for item in range(50)]
    assert threads == {threading.current_thread()}


def test_threads_prepare_and_finish_while_the_network_computes() -> None:
    """The network waits until the item after it is prepared, and the one before it is finished."""
    prepared, finished = ([threading.Event() for _ in range(4)] for _ in range(2))

    def compute(item: int) -> int:
        assert item == 3 or prepared[item + 1].wait(30)
        assert item == 0 or finished[item - 1].wait(30)
        return item

    def setting(events: list[threading.Event], item: int) -> int:
        events[item].set()
        return item

    stages = Stages(partial(setting, prepared), compute, partial(setting, finished), lambda _: 1)
    assert [result for _, result in pipeline.run(stages, range(4), 100, 1)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "most"), [(1, 10), (4, 2), (11, 1)])
def test_no_more_is_held_than_allowed_or_else_one_item(size: int, most: int) -> None:
    lock, held, peak = threading.Lock(), 0, 0

    def prepare(item: int) -> int:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        return item

    stages = Stages(prepare, same, same, lambda _: size)
    for _ in pipeline.run(stages, range(40), 10, 8):
        with lock:
            held -= 1
    assert 1 <= peak <= most


def failing(stage: int, error: BaseException) -> Stages[int, int, int, int]:
    """Stages of which one raises an error for the item 2."""

    def fails(item: int) -> int:
        if item == 2:
            raise error
        return item

    first, second, third = (fails if stage == number else same for number in range(3))
    return Stages(first, second, third, lambda _: 1)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImageError("It is torn.", "Mend it."), "It is torn. Mend it."),
        (PermissionError(13, "Permission denied", "a.jpg"), "a.jpg: Permission denied."),
        (MemoryError(), "It does not fit into the memory."),
    ],
)
def test_an_error_ends_its_item_alone(stage: int, error: Exception, text: str) -> None:
    results = [result for _, result in pipeline.run(failing(stage, error), range(5), 100, 2)]
    assert isinstance(results[2], UserError)
    assert str(results[2]).startswith(text)
    assert results[:2] + results[3:] == [0, 1, 3, 4]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(
    "error", [DiskFullError("/out"), ArtifactError("NaN"), ValueError("a bug"), KeyboardInterrupt()]
)
def test_other_errors_end_the_run_and_its_threads(stage: int, error: BaseException) -> None:
    run = pipeline.run(failing(stage, error), range(5), 100, 2)
    with pytest.raises(type(error)):
        list(run)
    assert not [thread for thread in threading.enumerate() if "semseg-offline" in thread.name]


def test_a_run_that_is_left_takes_no_more_items_and_ends_its_threads() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    run = pipeline.run(Stages(same, same, same, lambda _: 1), items(), 100, 2)
    assert next(run) == (0, 0)
    run.close()
    assert len(taken) < 20
    assert not [thread for thread in threading.enumerate() if "semseg-offline" in thread.name]
