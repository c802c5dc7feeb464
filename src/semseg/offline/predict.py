"""`semseg predict`: segments images with a model, and writes what is asked for into a folder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs.conversion import open_any
from semseg.codecs.images import decode_whole
from semseg.data.files import AHEAD_BYTES
from semseg.data.threads import READERS, map_in_order
from semseg.errors import UserError
from semseg.machine import usable_cores
from semseg.offline import pipeline
from semseg.offline.model import Model, Segmentation
from semseg.offline.outputs import OUTPUTS, Output, target, write, writing_results
from semseg.offline.shares import ShareTable, earlier_lines
from semseg.offline.sources import Source, require_distinct
from semseg.types import UInt8


@dataclass(frozen=True)
class Plan:
    """What to segment and to write. todo: the images to segment; kept: the lines of the table for the others."""

    results: Path
    outputs: Sequence[Output]
    palette: str | None
    todo: Sequence[Source]
    kept: Sequence[Sequence[str]]


def plan(
    sources: Sequence[Source],
    results: Path,
    outputs: Sequence[Output],
    palette: str | None,
    names: Sequence[str],
    skip: bool,
) -> Plan:
    """Plans a run, before anything is written.

    names: those of the classes. skip: whether images are left out whose results, and lines in the table, are there.
    Raises UserError if two images would write the same file, or one would overwrite an image.
    """
    require_distinct((source, target(results, source.path, output)) for source in sources for output in outputs)
    lines = earlier_lines(results, names) if skip else {}
    todo = [source for source in sources if str(source.path) not in lines or not _exists(source, results, outputs)]
    kept = lines.keys() - {str(source.path) for source in todo}
    return Plan(results, outputs, palette, todo, [line for image, line in lines.items() if image in kept])


def predict(model: Model, planned: Plan) -> Generator[tuple[Source, UserError | None], None, None]:
    """Segments the images and writes their results; yields each image, in order, with what went wrong with it, if so.

    Raises UserError if the folder cannot be written to, DiskFullError, and ArtifactError if the network computes
    infinite values or NaN. What was written until then, or until the generator is closed, is whole.
    """
    with writing_results(planned.results):
        table = ShareTable(planned.results, model.class_names, planned.kept)
    for_files = min(AHEAD_BYTES, model.memory // 4)
    opening = partial(_open, model, planned)
    opened = map_in_order(opening, planned.todo, READERS, 2 * READERS, lambda one: one.file_bytes, for_files)
    stages = pipeline.Stages(_decode, partial(_segment, model), partial(_write, planned), lambda one: one.needed)
    run = pipeline.run(stages, opened, model.memory - for_files, usable_cores())
    with table, closing(opened), closing(run):
        for one, result in run:
            if isinstance(result, UserError):
                yield one.source, result
            else:
                table.add(str(one.source.path), *result)
                yield one.source, None


@dataclass(frozen=True)
class _Opened:
    """An image whose header is parsed, or why it cannot be; needed: the bytes that it takes until it is written."""

    source: Source
    image: ImageFile | UserError
    file_bytes: int = 0
    needed: int = 0


def _open(model: Model, planned: Plan, source: Source) -> _Opened:
    written = max(output.memory(model.num_classes) for output in planned.outputs)  # bytes per pixel, one at a time
    advice = f"{'Leave npy out of --save, cut' if OUTPUTS['npy'] in planned.outputs else 'Cut'} the image into parts"
    try:
        content = source.file.read()
        image = open_any(content)
        needed = len(content) + model.image_bytes(image.height, image.width, 1 + written, advice=advice)
    except UserError as error:
        return _Opened(source, error)
    return _Opened(source, image, len(content), needed)


def _decode(opened: _Opened) -> tuple[Source, UInt8]:
    if isinstance(opened.image, UserError):
        raise opened.image
    return opened.source, decode_whole(opened.image)


def _segment(model: Model, decoded: tuple[Source, UInt8]) -> tuple[Source, Segmentation]:
    source, pixels = decoded
    return source, model.segment(pixels)


def _write(planned: Plan, segmented: tuple[Source, Segmentation]) -> tuple[int, int, NDArray[np.int64]]:
    """Writes the results of an image; returns its height and width, and the number of pixels of each class."""
    source, found = segmented
    write(found, planned.results, source.path, planned.outputs, planned.palette)
    height, width = found.mask.shape
    return height, width, found.pixels_by_class()


def _exists(source: Source, results: Path, outputs: Sequence[Output]) -> bool:
    return all(target(results, source.path, output).is_file() for output in outputs)
