"""Shuffles a stream that is too long to keep in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def shuffled(
    items: Iterable[Item], size: Callable[[Item], int], rng: np.random.Generator, max_bytes: int, max_items: int
) -> Generator[Item, None, None]:
    """Yield all items, each drawn at random from a buffer of those that arrived before.

    The buffer holds at most `max_items` items and `max_bytes` bytes, as counted by `size`.
    """
    held: list[Item] = []
    held_bytes = 0
    for item in items:
        held.append(item)
        held_bytes += size(item)
        while held_bytes > max_bytes or len(held) > max_items:
            drawn = _draw(held, rng)
            held_bytes -= size(drawn)
            yield drawn
    while held:
        yield _draw(held, rng)


def _draw(held: list[Item], rng: np.random.Generator) -> Item:
    """Remove a random item; the last one takes its place."""
    index = int(rng.integers(len(held)))
    held[index], held[-1] = held[-1], held[index]
    return held.pop()
