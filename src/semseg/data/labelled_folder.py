"""Opens a user's folder of images, alone or with one of annotations, to run a model on them or to measure it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.codecs.conversion import image_to_png, mask_to_png
from semseg.data.files import ConvertedFile, File, LocalFile, counts_as_file
from semseg.data.image_files import is_converted
from semseg.data.label_map import LabelMap, parse_label_map, read_label_map
from semseg.data.label_map_files import COMMON_NAME, find_label_map
from semseg.data.matching import match
from semseg.data.pairs import Pair
from semseg.data.report import Report
from semseg.data.samples import Sampler
from semseg.data.strays import nothing_found, warn_of
from semseg.data.user_folders import UserFolder, find_images, find_pair
from semseg.errors import DataError, first_few, one_line
from semseg.machine import usable_cores
from semseg.types import Classes

logger = logging.getLogger("semseg")

_NAMES = ("images", "annotations")
_LONGEST_MAP = 200
"""The characters of a label map that messages show."""


@dataclass(frozen=True)
class LabelledFolder:
    """Images and their annotations.

    pairs: sorted by name; sampler: reads them in full size; classes: what the label map or a file beside it, or the
    annotations, calls the classes.
    """

    pairs: tuple[Pair, ...]
    sampler: Sampler
    classes: Classes

    @property
    def reading(self) -> str:
        """The label map by which the annotations are read, in words."""
        label_map = self.sampler.label_map
        return f"{label_map.name}, {_shown(label_map.source)}"


def open_labelled(
    images: Path,
    annotations: Path,
    label_map: Path | None,
    num_classes: int,
    suffix: str = "",
    trained: Mapping[str, dict[str, Any]] | None = None,
) -> LabelledFolder:
    """Lists the pairs of two folders, as `find_pair` finds them; other formats are converted when files are read.

    label_map: a JSON file for the masks; None for `label_map.json` in their folder, or else that of the training.
    suffix: what the names of masks have after those of their images, such as `_L`. trained: the label maps of the
    model's training by split, as JSON objects, if it had any. Raises DataError for a file without a partner, an empty
    folder, the label map, and a training whose splits had different ones, ChannelError for a folder that cannot be read
    or does not fit.
    """
    image_of, mask_of = find_pair(_NAMES, images, annotations, suffix)
    problems = [*_reported(image_of, annotations), *_reported(mask_of, images)]
    matches = match((images, annotations), image_of.files, mask_of.files, suffix_helps=True)
    Report((), (*problems, *matches.problems), ()).raise_problems()
    found = _label_map(annotations, label_map, num_classes, trained or {})
    # The sizes of crops are unused: images are whole.
    sampler = Sampler(found, crop_size=0, base_size=0, seed=0, workers=usable_cores(), checked=False)
    image_file, mask_file = _opener(images, image_to_png), _opener(annotations, mask_to_png)
    pairs = tuple(Pair(image_file(image), mask_file(mask)) for image, mask in matches.pairs)
    return LabelledFolder(pairs, sampler, found.classes)


def list_images(images: Path) -> tuple[File, ...]:
    """Lists the images in a folder, as `find_images` finds them, sorted by name; other files are named in warnings.

    Raises DataError if there is none, and ChannelError if the folder cannot be read or two images have the same name.
    """
    found = find_images(_NAMES[0], images)
    for problem in _reported(found):
        raise problem
    return tuple(map(_opener(images, image_to_png), found.files.values()))


def _label_map(
    annotations: Path, given: Path | None, num_classes: int, trained: Mapping[str, dict[str, Any]]
) -> LabelMap:
    """The label map that is given, or is in the folder of annotations, or is that of the training."""
    if given:
        return read_label_map(given, num_classes)
    has_own = counts_as_file(annotations / COMMON_NAME)
    default = _of_training(trained, num_classes) if trained and not has_own else None
    return find_label_map(_NAMES[1], annotations, None, num_classes, default)


def _of_training(trained: Mapping[str, dict[str, Any]], num_classes: int) -> LabelMap:
    """The label map of all splits of a training with at least one. Raises DataError if they had different ones."""
    name = "the label map of the training"
    first, *others = (parse_label_map(source, num_classes, name) for source in trained.values())
    if any((one.table != first.table).any() or one.colors != first.colors for one in others):
        maps = ", ".join(f"{split} by {_shown(source)}" for split, source in trained.items())
        raise DataError(
            f"The training read each split by a label map of its own: {maps}.",
            "Give the one for these annotations with --label-map FILE.",
        )
    return first


def _shown(source: Mapping[str, Any]) -> str:
    text = one_line(json.dumps(source, ensure_ascii=False))
    return text if len(text) <= _LONGEST_MAP else f"{text[: _LONGEST_MAP - 3]}..."


def _reported(folder: UserFolder, other: Path | None = None) -> list[DataError]:
    """Warns of files that are not read and of folders that are not searched; returns a problem if no file is read.

    other: the folder of the other files of the pairs, which may be in this one.
    """
    inner = [path for path in folder.others if path.is_dir()] if folder.files else []
    if names := [one_line(str(path)) for path in inner if not (other and other.exists() and path.samefile(other))]:
        logger.warning("Not searched, as there are files beside them that are read: %s", first_few(names))
    warn_of([path for path in folder.others if path not in inner], folder.suffixes)
    what = one_line(str(folder.path))
    return [] if folder.files else [nothing_found(what, folder.path, folder.suffixes, folder.others)]


def _opener(folder: Path, convert: Callable[[bytes], bytes]) -> Callable[[Path], File]:
    """Makes a file of a path in or below a folder, which is converted when it is read; at most one for each core at a
    time. It is named from the folder's own name on."""
    turns = threading.Semaphore(usable_cores())

    def converted(data: bytes) -> bytes:
        with turns:
            return convert(data)

    def opened(path: Path) -> File:
        file = LocalFile(path, given=str(Path(folder.name, path.relative_to(folder))))
        return ConvertedFile(file, converted) if is_converted(path) else file

    return opened
