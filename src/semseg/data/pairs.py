"""Matches images with masks: the files of two channels, by stem."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from semseg.codecs.kinds import CONVERT, HEAD_BYTES, Kind, kind_of
from semseg.data.class_names import FILES as CLASS_FILES
from semseg.data.files import File, LoadedFile, LocalFile, load, printable
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import LabelMap
from semseg.data.nested import files_below
from semseg.data.normal_forms import by_form
from semseg.errors import DataError, one_line
from semseg.sagemaker.channels import readable
from semseg.types import Classes

logger = logging.getLogger("semseg")

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_MASK_SUFFIXES = (".png",)
_AS_MASK = "Save annotations as PNG masks of one 8-bit channel."
_NO_STRAYS = ("label_map.json", *CLASS_FILES)
"""Files beside the annotations that are read, though not as annotations."""

_MAX_WARNINGS = 20

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


def list_pairs(name: str, images: Path, masks: Path, ending: str = "", of_user: bool = False) -> Listing:
    """Match the images in `images` (.jpg, .jpeg, .png) with the masks in `masks` (.png) by stem.

    ending: what the stems of masks have besides those of their images, such as `_L`; masks without it are ignored, and
    both may be in one folder. of_user: whether the folders are a user's, not channels: without files of its own, such
    a folder is searched with all folders below it, in which partners have the same path; hints name `--suffix`.

    Stems that differ only in their Unicode normal form match if there is exactly one such image and one such mask. The
    pairs are sorted by the image's stem. Suffixes may be in capitals. Sub-directories of channels are not searched:
    with the prefix ``train``, SageMaker also downloads ``train_annotation`` into the channel. They and all other files
    are ignored with a warning.
    Files without a partner, files with the same stem and empty channels are returned as problems. Raises ChannelError
    for a directory that cannot be read.
    """
    problems: list[DataError] = []
    image_of = _by_stem(images, _IMAGE_SUFFIXES, problems, of_user)
    mask_of = _by_stem(masks, _MASK_SUFFIXES, problems, of_user)
    if ending:
        if images.resolve() == masks.resolve():
            image_of = {stem: path for stem, path in image_of.items() if not stem.endswith(ending)}
        mask_of = _without(ending, mask_of, masks, problems)
    matched = _matched(image_of, mask_of)
    pairs = tuple(Pair(LocalFile(image_of[image]), LocalFile(mask_of[mask])) for image, mask in sorted(matched.items()))
    if image_of and mask_of:
        hint = "" if pairs else naming_hint(image_of, mask_of, of_user)
        problems += _lone(image_of, matched, masks, "annotation", hint)
        problems += _lone(mask_of, matched.values(), images, "image", hint)
    return Listing(name, pairs, tuple(problems))


def _without(ending: str, mask_of: dict[str, Path], masks: Path, problems: list[DataError]) -> dict[str, Path]:
    """The masks whose stems end so, by the rest of them; a problem if there are masks, but none of these."""
    found = {stem.removesuffix(ending): path for stem, path in mask_of.items() if stem.endswith(ending)}
    if mask_of and not found:
        example = printable(next(iter(mask_of.values())))
        problems.append(DataError(f"No annotation in {one_line(masks.name)} ends with {ending!r}: see {example}."))
    return found


def list_images(images: Path, of_user: bool = False) -> tuple[File, ...]:
    """The images in a folder (.jpg, .jpeg, .png), sorted by name; other entries are ignored with a warning.

    of_user: as `list_pairs` has it. Raises DataError if there is none or two have the same stem, and ChannelError if
    the folder cannot be read.
    """
    problems: list[DataError] = []
    found = _by_stem(images, _IMAGE_SUFFIXES, problems, of_user)
    if problems:
        raise problems[0]
    return tuple(LocalFile(found[stem]) for stem in sorted(found))


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, in order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _by_stem(
    directory: Path, suffixes: tuple[str, ...], problems: list[DataError], nested: bool = False
) -> dict[str, Path]:
    """The files of a directory by stem; repeated stems and an empty directory are added to `problems`.

    nested: whether the files below a directory without files of its own are listed, by path without suffix.
    """
    files: dict[str, Path] = {}
    strays = []
    with readable(directory.name):
        entries = sorted(directory.iterdir()) if directory.is_dir() else []
        usable = {path for path in entries if _is_usable(path, suffixes)}
        if nested and not usable:
            below = list(files_below(directory))
            usable = {path for path in below if _is_usable(path, suffixes)}
            entries = below if usable else entries
    for path in entries:
        stem = str(path.relative_to(directory).with_suffix(""))
        if path not in usable:
            strays.append(path)
        elif other := files.get(stem):
            problems.append(
                DataError(f"{printable(path)} has the same stem as {printable(other)}.", "Remove one of the two.")
            )
        else:
            files[stem] = path
    strays = [path for path in strays if path.name not in _NO_STRAYS]
    _warn_of(strays, suffixes)
    if not files:
        nothing = "it is empty" if directory.is_dir() else "there is no such folder"
        content = f"none among {len(entries)} entries" if entries else nothing
        problems.append(
            DataError(
                f"Channel {directory.name} has no {' or '.join(suffixes)} file: {content}.",
                _format_hint(strays, suffixes) or "Check the folder or S3 URI that was given.",
            )
        )
    return files


def _is_usable(path: Path, suffixes: tuple[str, ...]) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in suffixes and path.is_file()


def _warn_of(strays: Sequence[Path], suffixes: tuple[str, ...]) -> None:
    """Warn of each stray file in the built-in algorithm's words, or name its format if it is an image."""
    for path in strays[:_MAX_WARNINGS]:
        if kind := _other_image(path):
            logger.warning("%s is %s: only %s is read", one_line(str(path)), kind.name, " or ".join(suffixes))
        else:
            logger.warning("%s is not a readable image file", one_line(str(path)))
    if len(strays) > _MAX_WARNINGS:
        logger.warning("%d more entries of %s are ignored", len(strays) - _MAX_WARNINGS, strays[0].parent)


def _format_hint(strays: Sequence[Path], suffixes: tuple[str, ...]) -> str:
    """The format of the first image that cannot be read, with advice; empty if there is none among the first strays."""
    kinds = ((path, _other_image(path)) for path in strays[:_MAX_WARNINGS])
    path, kind = next(((path, kind) for path, kind in kinds if kind), (None, None))
    if path is None or kind is None:
        return ""
    return f"{printable(path)} is {kind.name}. {_AS_MASK if suffixes == _MASK_SUFFIXES else kind.advice}"


def _other_image(path: Path) -> Kind | None:
    """The kind of a stray file that is an image by its first bytes; otherwise None."""
    kind = _kind(path)
    return kind if kind and kind.image else None


def _kind(path: Path) -> Kind | None:
    """The kind of a file by its first bytes; None if it is unknown, hidden or not a file."""
    try:
        if path.name.startswith(".") or not path.is_file():
            return None
        with path.open("rb", buffering=0) as file:
            return kind_of(file.read(HEAD_BYTES))
    except OSError:
        return None


def _matched(image_of: dict[str, Path], mask_of: dict[str, Path]) -> dict[str, str]:
    """Map the stem of each image to that of its mask: the same one, or else the only one of the same normal form."""
    matched = {stem: stem for stem in image_of.keys() & mask_of.keys()}
    lone_images, lone_masks = (by_form(files.keys() - matched.keys()) for files in (image_of, mask_of))
    for form in lone_images.keys() & lone_masks.keys():
        if len(lone_images[form]) == len(lone_masks[form]) == 1:
            matched[lone_images[form][0]] = lone_masks[form][0]
    return matched


def _lone(
    files: dict[str, Path], matched: Collection[str], directory: Path, partner: str, hint: str
) -> list[DataError]:
    """A problem for each file without a partner, with a hint if one in another format or spelling exists."""
    hint = hint or "Image and annotation must have the same name except for the suffix."
    lone = sorted(files.keys() - set(matched))
    alike = {stem for names in by_form(files).values() if len(names) > 1 for stem in names}
    with readable(directory.name):
        others = {path.stem: path for path in sorted(directory.iterdir()) if path.suffix} if lone else {}
    problems = []
    for stem in lone:
        message = f"{printable(files[stem])} has no {partner} in {directory.name}"
        if other := others.get(stem):
            kind = _kind(other)
            what = kind.name if kind else "in a format that cannot be read"
            problems.append(
                DataError(f"{message}: {one_line(other.name)} is {what}.", CONVERT if partner == "image" else _AS_MASK)
            )
        elif stem in alike:
            advice = f"Its name, {files[stem].name!a}, looks like that of another file: rename it."
            problems.append(DataError(f"{message}.", advice))
        else:
            problems.append(DataError(f"{message}.", hint))
    return problems


def naming_hint(image_of: Mapping[str, Path], mask_of: Mapping[str, Path], of_user: bool) -> str:
    """An example of two files that seem to belong together, such as a.jpg and a_mask.png, if no stem matches.

    of_user: whether `--suffix` may pair them.
    """
    images, masks = _cores(image_of), _cores(mask_of)
    for core in sorted(images.keys() & masks.keys()):
        image, mask = images[core], masks[core]
        ending = mask.stem.removeprefix(image.stem)
        option = f", or --suffix {one_line(ending)}" if of_user and ending != mask.stem else ""
        return f"{printable(image)} seems to belong to {printable(mask)}: give both the same stem{option}."
    return ""


def _cores(files: Mapping[str, Path]) -> dict[str, Path]:
    """Files by their stem without the beginning and the end that all stems share."""
    start = _shared_start(list(files))
    end = _shared_start([stem[start:][::-1] for stem in files])
    return {stem[start : len(stem) - end]: path for stem, path in files.items()}


def _shared_start(texts: list[str]) -> int:
    """The length of the common prefix of all texts, which is that of the smallest and the largest."""
    first, last = min(texts), max(texts)
    return next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
