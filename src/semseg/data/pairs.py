"""Images with their masks, and those of two channels, whose files belong together by stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from semseg.data.files import File, LoadedFile, LocalFile, counts_as_file, load, printable
from semseg.data.ground_truth import ColorMap
from semseg.data.image_files import IMAGES, MASKS, is_named
from semseg.data.label_map import LabelMap
from semseg.data.matching import match
from semseg.data.strays import nothing_found, warn_of
from semseg.errors import DataError
from semseg.sagemaker.channels import readable
from semseg.types import Classes

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    colors: the colour of each class in the mask, if Ground Truth made it.
    """

    image: File
    mask: File
    colors: ColorMap | None = None

    def loaded(self) -> Pair:
        """This pair with its files in memory; an error of reading is raised later, when the bytes are requested."""
        return replace(self, image=load(self.image), mask=load(self.mask))

    def loaded_bytes(self) -> int:
        """The number of bytes of its files that are in memory."""
        return sum(file.size for file in (self.image, self.mask) if isinstance(file, LoadedFile))


@dataclass(frozen=True)
class Listing:
    """The pairs of a split, in order, and the problems that kept files from being paired.

    colors: the classes in Ground Truth's colour map, if it made the masks.
    """

    name: str
    pairs: tuple[Pair, ...]
    problems: tuple[DataError, ...]
    colors: ColorMap | None = None

    def classes(self, label_map: LabelMap) -> Classes:
        """The names and colours of the classes: the label map's, and Ground Truth's where it has none."""
        return label_map.classes.completed(self.colors.classes_under(label_map)) if self.colors else label_map.classes


def list_pairs(name: str, images: Path, masks: Path) -> Listing:
    """Match the images in the channel `images` (.jpg, .jpeg, .png) with the masks in `masks` (.png) by stem.

    Stems that differ only in their Unicode normal form match if there is exactly one such image and one such mask. The
    pairs are sorted by the image's stem. Suffixes may be in capitals. Sub-directories are not searched: with the prefix
    ``train``, SageMaker also downloads ``train_annotation`` into the channel. They and all other files are ignored with
    a warning.
    Files without a partner, files with the same stem and empty channels are returned as problems. Raises ChannelError
    for a directory that cannot be read.
    """
    problems: list[DataError] = []
    image_of = _by_stem(images, IMAGES, problems)
    mask_of = _by_stem(masks, MASKS, problems)
    matches = match((images, masks), image_of, mask_of)
    pairs = tuple(Pair(LocalFile(image), LocalFile(mask)) for image, mask in matches.pairs)
    return Listing(name, pairs, (*problems, *matches.problems))


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, in order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _by_stem(directory: Path, suffixes: tuple[str, ...], problems: list[DataError]) -> dict[str, Path]:
    """The files of a directory by stem; repeated stems and an empty directory are added to `problems`."""
    files: dict[str, Path] = {}
    strays = []
    with readable(directory.name):
        for path in sorted(directory.iterdir()) if directory.is_dir() else []:
            if not (is_named(path, suffixes) and counts_as_file(path)):
                strays.append(path)
            elif other := files.get(path.stem):
                problems.append(
                    DataError(f"{printable(path)} has the same stem as {printable(other)}.", "Remove one of the two.")
                )
            else:
                files[path.stem] = path
    warn_of(strays, suffixes)
    if not files:
        problems.append(nothing_found(f"Channel {directory.name}", directory, suffixes, strays))
    return files
