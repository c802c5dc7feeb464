"""The pass over all files before training: what is wrong with them is said at once, not after hours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semseg.data.files import printable, read_mask, require_same_size, verify_image
from semseg.data.label_map import LabelMap
from semseg.data.pairs import Listing, Pair
from semseg.data.threads import map_in_order
from semseg.errors import DataError
from semseg.types import IGNORED

logger = logging.getLogger("semseg")

Counts = NDArray[np.int64]
_SHOWN = 20
_HINTS = 3


def check_pairs(
    splits: Sequence[tuple[Listing, LabelMap]],
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Counts] | None:
    """Read every file of every listing to its end and judge the masks by the label map.

    Gives, by the listing's name, the number of pixels of each class: int64 (num_classes,). Gives None as soon as
    `stop()` is true; it is asked after each pair, and an Event's `is_set` will do.

    Raises one DataError for all that is wrong, with the first 20 problems and their number. Values that no label
    map lists, and a lone class, are warned about.
    """
    problems = [problem for listing, _ in splits for problem in listing.problems]
    counts = {}
    with tqdm(desc="Checking data", total=_total(splits), disable=None, leave=False) as bar:
        for listing, label_map in splits:
            pixels = np.zeros(256, np.int64)
            for found, histogram in map_in_order(partial(_inspect, label_map), listing.pairs, workers, 4 * workers):
                if stop():
                    return None
                bar.update()
                problems += found
                pixels += histogram
            counts[listing.name] = _class_counts(pixels, label_map)
            problems += _all_ignored(listing, pixels, label_map)
            _warn(listing.name, pixels, label_map)
    if problems:
        raise _summary(problems)
    return counts


def _total(splits: Sequence[tuple[Listing, LabelMap]]) -> int:
    return sum(len(listing.pairs) for listing, _ in splits)


def _inspect(label_map: LabelMap, pair: Pair) -> tuple[list[DataError], Counts]:
    """What is wrong with one pair, and how many pixels of its mask have each of the 256 values."""
    problems: list[DataError] = []
    pixels = np.zeros(256, np.int64)
    image_size = None
    with _collected(problems):
        image_size = verify_image(pair.image)
    with _collected(problems):
        mask = read_mask(pair.mask)
        pixels += Image.fromarray(mask).histogram()
        if image_size:
            require_same_size(pair.image, image_size, pair.mask, (mask.shape[0], mask.shape[1]))
    with _collected(problems):
        _require_classes(pair, pixels, label_map)
    return problems, pixels


@contextmanager
def _collected(problems: list[DataError]) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        problems.append(error)


def _require_classes(pair: Pair, pixels: Counts, label_map: LabelMap) -> None:
    values = np.flatnonzero(label_map.invalid & (pixels > 0))
    if len(values):
        raise DataError(
            f"{printable(pair.mask)}: pixel values {_some(values)} are no class under {label_map.source}: "
            f"num_classes is {label_map.num_classes}.",
            "Raise num_classes, or give a label map.",
        )


def _all_ignored(listing: Listing, pixels: Counts, label_map: LabelMap) -> list[DataError]:
    if not pixels.any() or _class_counts(pixels, label_map).any() or pixels[label_map.invalid].any():
        return []
    return [DataError(f"Every pixel of the annotations of {listing.name} is ignored.", "Check the label map.")]


def _warn(name: str, pixels: Counts, label_map: LabelMap) -> None:
    unlisted = np.flatnonzero(label_map.unlisted & (pixels > 0))
    if len(unlisted):
        count = pixels[unlisted].sum()
        logger.warning(
            "%s: %d pixels have values no label map lists (%s): they are ignored", name, count, _some(unlisted)
        )
    present = np.flatnonzero(_class_counts(pixels, label_map))
    if len(present) == 1:
        hint = '; for masks of 0 and 255 give the label map {"scale": 255}' if pixels[IGNORED] else ""
        logger.warning("%s: %d is the only class in the annotations%s", name, present[0], hint)


def _class_counts(pixels: Counts, label_map: LabelMap) -> Counts:
    counts = np.zeros(256, np.int64)
    np.add.at(counts, label_map.table, pixels)
    return counts[: label_map.num_classes]


def _some(values: NDArray[np.intp]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def _summary(problems: list[DataError]) -> DataError:
    """One error for all. Where hints repeat, each is given once."""
    lines = [problem.message for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"... and {len(problems) - _SHOWN} more.")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    hints = dict.fromkeys(problem.hint for problem in problems[:_SHOWN] if problem.hint)
    return DataError(f"{count} in the data:\n" + "\n".join(lines) + "\n", " ".join(list(hints)[:_HINTS]))
