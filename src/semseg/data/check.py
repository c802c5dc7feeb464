"""The pass over all files before training: what is wrong with them is said at once, not after hours."""

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
from semseg.data.decoding import open_picture, read_values, require_classes, require_same_size, verify_picture
from semseg.data.files import AHEAD_BYTES, File, naming
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Listing, Pair
from semseg.data.palettes import Palettes
from semseg.data.report import MAX_COLORS, Report
from semseg.data.suspicions import suspicions
from semseg.data.tally import Finding, Tally
from semseg.data.threads import READERS, map_in_order
from semseg.data.value_colors import mask_colors
from semseg.errors import DataError, ImageError, Stopped
from semseg.machine import usable_cores

logger = logging.getLogger("semseg")

Item = TypeVar("Item")

_TOLD_EVERY = 60


def check(
    splits: Sequence[tuple[Listing, LabelMap]],
    workers: int,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Read every file of every listing to its end and judge the masks by the label maps.

    workers: threads that decode, at most one a core; 0 reads and decodes in the caller's. clock: seconds, by which the
    log is told every minute how far it is.
    Raises Stopped as soon as `stop()` is true; it is asked after each pair, and an Event's `is_set` will do.
    """
    tallies = [Tally(listing, label_map) for listing, label_map in splits]
    palettes = Palettes()
    total = sum(len(listing.pairs) for listing, _ in splits)
    with (
        tqdm(desc="Checking data", total=total, disable=None, leave=False) as bar,
        closing(_findings(tallies, workers)) as findings,
    ):
        for tally, finding in _told(findings, total, clock):
            if stop():
                raise Stopped
            bar.update()
            tally.add(finding)
            if finding.shown:
                palettes.add(finding.shown)
    found = tuple(tally.split() for tally in tallies)
    missing = [problem for listing, _ in splits for problem in listing.problems]
    proposal = propose(found, [tally.value_colors for tally in tallies], palettes)
    problems = [problem for tally in tallies for problem in tally.problems(proposal)]
    doubts = (
        *contradictions([(split.name, split.label_map) for split in found]),
        *palette_suspicion(palettes, found, proposal),
        *suspicions(found),
    )
    return Report(found, (*missing, *problems), doubts, proposal.source if proposal else None)


def _findings(tallies: Sequence[Tally], workers: int) -> Generator[tuple[Tally, Finding], None, None]:
    """What each pair holds, in order, with the tally it belongs to: files are read ahead of the decoding."""
    readers, threads = READERS if workers else 0, min(workers, usable_cores())
    for tally in tallies:
        inspect, pairs = partial(_inspect, tally.label_map), tally.listing.pairs
        with (
            closing(map_in_order(Pair.loaded, pairs, readers, READERS, Pair.loaded_bytes, AHEAD_BYTES)) as loaded,
            closing(map_in_order(inspect, loaded, threads, 2 * threads)) as findings,
        ):
            for finding in findings:
                yield tally, finding


def _told(items: Iterable[Item], total: int, clock: Callable[[], float]) -> Iterator[Item]:
    """The items, of which the log is told: it has nothing of the bar, which only a terminal shows."""
    if not total:
        return
    begun = said = clock()
    logger.info("Checking the data: %d pairs.", total)
    for done, item in enumerate(items, 1):
        yield item
        if clock() - said >= _TOLD_EVERY and done < total:
            said = clock()
            logger.info("Checking the data: %d of %d pairs are read.", done, total)
    logger.info("Checking the data: all %d pairs are read, in %.0f s.", total, clock() - begun)


def _inspect(label_map: LabelMap, pair: Pair) -> Finding:
    """What one pair holds."""
    finding = Finding()
    try:
        with _collected(finding.problems):
            _inspect_picture(finding, pair)
        with _collected(finding.problems):
            _inspect_mask(finding, pair, label_map)
    except Exception as error:  # a defect of ours or an exhausted memory: whose file was it?
        error.add_note(f"while checking {pair.image.name} and {pair.mask.name}")
        raise
    return finding


def _inspect_picture(finding: Finding, pair: Pair) -> None:
    picture = open_picture(pair)
    deep = images.has_16_bits(picture)
    height, width = verify_picture(pair, picture)
    finding.size, finding.picture = (width, height), _kind(picture)
    if deep:
        finding.upper = images.upper_bytes(picture)
    finding.digest = hash(
        pair.image.read()
    )  # 64 bits, keyed anew in each process: less work than a digest of hashlib's


def _inspect_mask(finding: Finding, pair: Pair, label_map: LabelMap) -> None:
    with naming(pair.mask):
        mask = images.open_image(pair.mask.read())
    kind, bits = _kind(mask), masks.grey_bits(mask)
    if finding.size:
        finding.turned = images.exif_rotates_differently(pair.image.read(), pair.mask.read(), finding.size)
    try:
        values = read_values(pair, label_map)
    except DataError as error:
        colors = _colors(pair.mask, ())
        if not any(color != (color & 0xFF) * 0x010101 for color in colors):  # none but grey: something else is wrong
            raise
        finding.colored, finding.colors, finding.mask = _bare(error), colors, kind
        return
    finding.mask = kind
    if bits and bits not in label_map.spread:
        finding.depth = bits
    if label_map.colors is not None and (values == UNLISTED_COLOR).any():
        finding.colors = _colors(pair.mask, label_map.colors)
    finding.values += Image.fromarray(values).histogram()
    if label_map.colors is None and pair.colors is None:
        finding.shown = mask_colors(pair.mask.name, mask, finding.values, label_map)
    if finding.size:
        with _collected(finding.problems):
            require_same_size(pair, finding.size[::-1], values.shape)
    require_classes(pair.mask, finding.values, label_map)


def _kind(image: ImageFile) -> str:
    return f"{image.format} {image.mode}"


def _colors(mask: File, listed: Collection[int]) -> dict[int, int]:
    """The colours of a mask that are not listed, with their pixels; none if it cannot be read."""
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
    """The error without its traceback, which would keep the bytes of the file in memory."""
    return DataError(error.message, error.hint)
