"""The part of the data that one of several ranks trains on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The part of rank `index` of `count` ranks: a slice of each batch in training, every `count`-th in validation."""

    index: int = 0
    count: int = 1

    def of(self, size: int) -> range:
        """The positions in a batch of `size` samples, 0 to size - 1; the first ranks have one more if there is a rest.

        Empty for the last ranks if there are more ranks than samples.
        """
        each, rest = divmod(size, self.count)
        start = self.index * each + min(self.index, rest)
        return range(start, start + each + (self.index < rest))

    def has(self, number: int) -> bool:
        """Whether the batch of this number, from 0, belongs to this rank in validation."""
        return number % self.count == self.index


WHOLE = Share()
