"""Checks all files of a data set before training, so that errors surface at once rather than after hours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TypeVar

from PIL import Image
from PIL.ImageFile import ImageFile
from tqdm import tqdm

from semseg.codecs import images, masks
from semseg.codecs.colors import main_colors
from semseg.data.color_maps import contradictions, palette_suspicion, propose
from semseg.data.decoding import open_image, read_values, require_classes, require_same_size, verify_image
from semseg.data.files import AHEAD_BYTES, File, naming
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Listing, Pair
from semseg.data.palettes import Palettes
from semseg.data.report import MAX_COLORS, Report
from semseg.data.split_statistics import PairStatistics, SplitStatistics
from semseg.data.suspicions import suspicions
from semseg.data.threads import READERS, map_in_order
from semseg.data.value_colors import mask_colors
from semseg.errors import DataError, ImageError, Stopped
from semseg.machine import usable_cores

logger = logging.getLogger("semseg")

Item = TypeVar("Item")

_LOG_INTERVAL = 60
"""Seconds between two log lines about the progress."""


def check(
    splits: Sequence[tuple[Listing, LabelMap]],
    workers: int,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Read every file of every listing to its end and check the masks against the label maps.

    workers: threads that decode, at most one per core; 0 reads and decodes in the caller's thread. clock: the time in
    seconds; progress is logged once a minute.
    Raises Stopped as soon as `stop()`, which is called after each pair, returns true.
    """
    statistics = [SplitStatistics(listing, label_map) for listing, label_map in splits]
    palettes = Palettes()
    total = sum(len(listing.pairs) for listing, _ in splits)
    with (
        tqdm(desc="Checking data", total=total, disable=None, leave=False) as bar,
        closing(_inspected(statistics, workers)) as inspected,
    ):
        for split, pair in _log_progress(inspected, total, clock):
            if stop():
                raise Stopped
            bar.update()
            split.add(pair)
            if pair.mask_colors:
                palettes.add(pair.mask_colors)
    reports = tuple(split.report() for split in statistics)
    missing = [problem for listing, _ in splits for problem in listing.problems]
    proposal = propose(reports, [split.value_colors for split in statistics], palettes)
    first = next((report.name for report in reports if report.colored and report.colors), "")
    problems = [problem for split in statistics for problem in split.problems(proposal, first)]
    warnings = (
        *contradictions([(report.name, report.label_map) for report in reports]),
        *palette_suspicion(palettes, reports, None if first else proposal),
        *suspicions(reports),
    )
    return Report(reports, (*missing, *problems), warnings, proposal.source if proposal else None)


def _inspected(
    statistics: Sequence[SplitStatistics], workers: int
) -> Generator[tuple[SplitStatistics, PairStatistics], None, None]:
    """The statistics of each pair, in order, with those of its split. Files are read ahead of decoding."""
    readers, threads = READERS if workers else 0, min(workers, usable_cores())
    for split in statistics:
        inspect, pairs = partial(_inspect, split.label_map), split.listing.pairs
        with (
            closing(map_in_order(Pair.loaded, pairs, readers, READERS, Pair.loaded_bytes, AHEAD_BYTES)) as loaded,
            closing(map_in_order(inspect, loaded, threads, 2 * threads)) as inspected,
        ):
            for pair in inspected:
                yield split, pair


def _log_progress(items: Iterable[Item], total: int, clock: Callable[[], float]) -> Iterator[Item]:
    """Yield the items and log the progress, for a job without a terminal, where no progress bar is shown."""
    if not total:
        return
    started = logged = clock()
    logger.info("Checking the data: %d pairs.", total)
    for done, item in enumerate(items, 1):
        yield item
        if clock() - logged >= _LOG_INTERVAL and done < total:
            logged = clock()
            logger.info("Checking the data: %d of %d pairs are read.", done, total)
    logger.info("Checking the data: all %d pairs are read, in %.0f s.", total, clock() - started)


def _inspect(label_map: LabelMap, pair: Pair) -> PairStatistics:
    """Read and check one pair; its errors are in the `problems` of the result."""
    statistics = PairStatistics()
    try:
        with _collected(statistics.problems):
            _inspect_image(statistics, pair)
        with _collected(statistics.problems):
            _inspect_mask(statistics, pair, label_map)
    except Exception as error:  # a bug or exhausted memory: name the files
        error.add_note(f"while checking {pair.image.name} and {pair.mask.name}")
        raise
    return statistics


def _inspect_image(statistics: PairStatistics, pair: Pair) -> None:
    image = open_image(pair)
    sixteen_bit = images.has_16_bits(image)
    height, width = verify_image(pair, image)
    statistics.size, statistics.image_kind = (width, height), _kind(image)
    if sixteen_bit:
        statistics.upper_bytes = images.upper_bytes(image)
    # 64 bits, with another key in each process; faster than a digest of hashlib
    statistics.digest = hash(pair.image.read())


def _inspect_mask(statistics: PairStatistics, pair: Pair, label_map: LabelMap) -> None:
    with naming(pair.mask):
        mask = images.open_image(pair.mask.read())
    kind, bits = _kind(mask), masks.grey_bits(mask)
    if statistics.size:
        statistics.rotated_by_exif = images.exif_rotates_differently(
            pair.image.read(), pair.mask.read(), statistics.size
        )
    try:
        values = read_values(pair, label_map)
    except DataError as error:
        colors = _colors(pair.mask, ())
        if not any(color != (color & 0xFF) * 0x010101 for color in colors):  # all grey: the error has another cause
            raise
        statistics.colored, statistics.colors, statistics.mask_kind = _bare(error), colors, kind
        return
    statistics.mask_kind = kind
    if bits and bits not in label_map.spread:
        statistics.depth = bits
    if label_map.colors is not None and (values == UNLISTED_COLOR).any():
        statistics.colors = _colors(pair.mask, label_map.colors)
    statistics.values += Image.fromarray(values).histogram()
    if label_map.colors is None and pair.colors is None:
        statistics.mask_colors = mask_colors(pair.mask.name, mask, statistics.values, label_map)
    if statistics.size:
        with _collected(statistics.problems):
            require_same_size(pair, statistics.size[::-1], values.shape)
    require_classes(pair.mask, statistics.values, label_map)


def _kind(image: ImageFile) -> str:
    return f"{image.format} {image.mode}"


def _colors(mask: File, listed: Collection[int]) -> dict[int, int]:
    """The colours of a mask that are not in `listed`, with the number of their pixels; empty if it cannot be read."""
    try:
        return dict(main_colors(mask.read(), MAX_COLORS + 1, listed))
    except ImageError:
        return {}


@contextmanager
def _collected(problems: list[DataError]) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        problems.append(_bare(error))


def _bare(error: DataError) -> DataError:
    """A copy of the error without its traceback, which would keep the bytes of the file in memory."""
    return DataError(error.message, error.hint)
