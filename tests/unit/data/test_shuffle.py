from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semseg.data.shuffle import shuffled


def order(count: int, max_items: int, seed: int = 0) -> list[int]:
    return list(shuffled(range(count), lambda _: 1, np.random.default_rng(seed), 10**6, max_items))


@given(st.lists(st.integers(0, 50)), st.integers(0, 200), st.integers(0, 10), st.integers(0, 5))
def test_each_comes_once_and_no_more_is_held_than_allowed(
    sizes: list[int], max_bytes: int, max_items: int, seed: int
) -> None:
    held: dict[int, int] = {}

    def arriving() -> Iterator[int]:
        for item, size in enumerate(sizes):
            assert sum(held.values()) <= max_bytes
            assert len(held) <= max_items
            held[item] = size
            yield item

    for item in shuffled(arriving(), sizes.__getitem__, np.random.default_rng(seed), max_bytes, max_items):
        del held[item]
    assert not held


def test_all_that_is_allowed_is_held() -> None:
    """The first one of a hundred comes out when six have come."""
    arriving = iter(range(100))
    next(shuffled(arriving, lambda _: 10, np.random.default_rng(0), 59, 100))
    assert next(arriving) == 6
    arriving = iter(range(100))
    next(shuffled(arriving, lambda _: 10, np.random.default_rng(0), 10**6, 5))
    assert next(arriving) == 6


def test_without_room_the_order_stays() -> None:
    assert order(20, max_items=0) == list(range(20))


def test_the_order_is_drawn_by_the_generator() -> None:
    assert order(20, 10, seed=1) == order(20, 10, seed=1) != order(20, 10, seed=2)


def test_any_item_may_come_at_any_place() -> None:
    orders = [order(6, 100, seed) for seed in range(200)]
    assert all(sorted(one) == list(range(6)) for one in orders)
    assert all(set(at_a_place) == set(range(6)) for at_a_place in zip(*orders, strict=True))
