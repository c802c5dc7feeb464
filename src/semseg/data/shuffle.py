"""Shuffling of what comes in a row that is too long to be held."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def shuffled(
    items: Iterable[Item], size: Callable[[Item], int], rng: np.random.Generator, max_bytes: int, max_items: int
) -> Generator[Item, None, None]:
    """All items, each drawn from those that have come and were not drawn yet.

    At most `max_bytes`, by `size`, and `max_items` of them are held back when the next item is asked for.
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
    """Take one out; the last one takes its place."""
    index = int(rng.integers(len(held)))
    held[index], held[-1] = held[-1], held[index]
    return held.pop()
