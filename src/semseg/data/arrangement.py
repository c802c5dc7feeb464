"""Makes channels of folders that are laid out otherwise: nested, with other names and formats, without validation.

A channel has its files in one folder, JPEG or PNG images and PNG masks of the same stem. A file that can be used as it
is becomes a link; TIFF, WebP and BMP files are converted to PNG.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from semseg.codecs.conversion import IMAGE_FORMATS, MASK_FORMATS, image_to_png, mask_to_png
from semseg.data.nested import files_below
from semseg.data.pairs import naming_hint
from semseg.data.threads import map_in_order
from semseg.errors import ChannelError, DataError, ImageError, first_few, one_line
from semseg.machine import usable_cores
from semseg.sagemaker.channels import readable
from semseg.sagemaker.log_lines import FOR_PEOPLE

logger = logging.getLogger("semseg")

_IMAGES = (".jpg", ".jpeg", ".png")
_MASKS = (".png",)
_SEPARATOR = "__"
"""Joins the folders in a name: ``night/0001.jpg`` becomes ``night__0001.jpg``."""


@dataclass(frozen=True)
class Arrangement:
    """How the user's folders differ from channels.

    suffix: what the name of a mask has after that of its image, such as ``_L``. split: the share, between 0 and 1, of
    the training pairs that are for validation; 0 if there is a channel for that.
    """

    suffix: str = ""
    split: float = 0.0


AS_CHANNELS = Arrangement()
"""That of folders whose files are named as in channels, with a folder for validation."""


@dataclass(frozen=True)
class _Folder:
    """The files of a folder by the stem of their name in the channel. others: files that belong to the folder."""

    files: Mapping[str, Path]
    others: tuple[Path, ...]
    is_channel: bool


def arrange(
    sources: Mapping[str, str],
    channel: Callable[[str], Path],
    arrangement: Arrangement,
    raise_if_stopped: Callable[[], None] = lambda: None,
) -> frozenset[str]:
    """Make those channels of images and masks that cannot be links to their folders; return their names.

    sources: the user's folder, file or address by channel; only pairs of folders on this machine are looked at.
    channel: the place of a channel, by name. Files that are not paired stay, for the data check to report.
    Raises ChannelError if the arrangement does not fit the folders, DataError for files that cannot be converted, and
    what `raise_if_stopped` raises.
    """
    _require_folders(sources, arrangement)
    made: dict[str, _Folder] = {}
    for name in ("train", "validation", "test"):
        masks_name = f"{name}_annotation"
        if not all(_is_folder(sources.get(one)) for one in (name, masks_name)):
            continue
        images = _scanned(name, Path(sources[name]), _IMAGES, IMAGE_FORMATS)
        masks = _scanned(masks_name, Path(sources[masks_name]), _MASKS, MASK_FORMATS)
        if arrangement.suffix:
            masks = _without_suffix(masks, arrangement.suffix, sources[masks_name])
            of_masks = frozenset(masks.files.values())  # images and masks may be in one folder
            images = _only(images, [stem for stem, path in images.files.items() if path not in of_masks])
        if arrangement.split and name == "train":
            made |= _split(images, masks, arrangement.split)
        elif arrangement.suffix or not (images.is_channel and masks.is_channel):
            made |= {name: images, masks_name: masks}
    for name, folder in made.items():
        _make(channel(name), folder, name.endswith("_annotation"), raise_if_stopped)
    return frozenset(made)


def _is_folder(source: str | None) -> bool:
    return bool(source) and Path(str(source)).is_dir()


def _require_folders(sources: Mapping[str, str], arrangement: Arrangement) -> None:
    if arrangement == AS_CHANNELS:
        return
    option = "--split" if arrangement.split else "--suffix"
    if not all(_is_folder(sources.get(name)) for name in ("train", "train_annotation")):
        raise ChannelError(f"{option} needs --train and --train-annotation to be folders on this machine.")
    if arrangement.split and any(name.startswith("validation") for name in sources):
        raise ChannelError("--split is given, and --validation too.", "Give one of them.")


def _scanned(name: str, folder: Path, plain: Sequence[str], formats: Mapping[str, str]) -> _Folder:
    """The files of a folder that can be used or converted or, if it has none itself, those of all folders in it."""
    accepted = (*plain, *formats)
    with readable(name):
        entries = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        found = {path.name: path for path in entries if path.suffix.lower() in accepted}
        nested = {} if found else _nested(folder, accepted)
    files: dict[str, Path] = {}
    for flat, path in sorted((found or nested).items(), key=lambda item: item[1].suffix.lower() in formats):
        stem = Path(flat).stem
        if stem not in files:
            files[stem] = path
        elif path.suffix.lower() not in formats:
            raise ChannelError(
                f"{one_line(str(path))} and {one_line(str(files[stem]))} have the same name.", "Rename one of them."
            )
    others = tuple(path for path in entries if path.name not in found)
    return _Folder(files, others, not nested and not any(path.suffix.lower() in formats for path in files.values()))


def _nested(folder: Path, accepted: Sequence[str]) -> dict[str, Path]:
    """The accepted files below a folder by their flat names. Hidden files and folders are left out."""
    found: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() in accepted:
            flat = _SEPARATOR.join(path.relative_to(folder).parts)
            if other := found.get(flat):
                raise ChannelError(
                    f"{one_line(str(path))} and {one_line(str(other))} would have the same name, "
                    f"{one_line(flat)}, in one folder.",
                    "Rename one of them.",
                )
            found[flat] = path
    return found


def _without_suffix(masks: _Folder, suffix: str, folder: str) -> _Folder:
    """The masks whose stems end with the suffix, by their stems without it."""
    ending = suffix.removesuffix(".png")
    named = {stem: path for stem, path in masks.files.items() if stem.endswith(ending) and stem != ending}
    left = [one_line(path.name) for stem, path in masks.files.items() if stem not in named]
    if not named:
        raise ChannelError(
            f"No mask in {one_line(folder)} has a name that ends with {ending!r}: {first_few(left, 3)}.",
            "Give --suffix what the names of masks have after those of their images.",
        )
    if left:
        logger.warning("Masks whose names do not end with %r are left out: %s", ending, first_few(left))
    return _Folder({stem.removesuffix(ending): path for stem, path in named.items()}, masks.others, is_channel=False)


def _split(images: _Folder, masks: _Folder, share: float) -> dict[str, _Folder]:
    """Train and validation: each pair's place depends on its name alone, so it stays when others are added."""
    stems = sorted(images.files.keys() & masks.files.keys(), key=_position)
    if len(stems) < 2:
        raise ChannelError(
            f"--split needs at least 2 images with a mask of the same name, not {len(stems)}.",
            naming_hint(images.files, masks.files, of_user=True) if images.files and masks.files else "",
        )
    count = min(max(1, round(share * len(stems))), len(stems) - 1)
    validation = frozenset(stems[:count])
    logger.info("%d of %d pairs are for validation.", count, len(stems), extra=FOR_PEOPLE)
    return {
        "train": _only(images, images.files.keys() - validation),
        "train_annotation": _only(masks, masks.files.keys() - validation),
        "validation": _only(images, validation),
        "validation_annotation": _only(masks, validation),
    }


def _position(stem: str) -> str:
    return hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()


def _only(folder: _Folder, stems: Iterable[str]) -> _Folder:
    return _Folder({stem: folder.files[stem] for stem in sorted(stems)}, folder.others, folder.is_channel)


def _make(place: Path, folder: _Folder, of_masks: bool, raise_if_stopped: Callable[[], None]) -> None:
    """Make a channel: links to the files, and PNG files of those in other formats."""
    place.mkdir(parents=True)
    formats, convert = (MASK_FORMATS, mask_to_png) if of_masks else (IMAGE_FORMATS, image_to_png)
    foreign = {stem: path for stem, path in folder.files.items() if path.suffix.lower() in formats}
    for stem, path in folder.files.items():
        if stem not in foreign:
            (place / f"{stem}{path.suffix}").symlink_to(path.resolve())
    for path in folder.others:
        (place / path.name).symlink_to(path.resolve())
    if not foreign:
        return
    kinds = " and ".join(sorted({formats[path.suffix.lower()] for path in foreign.values()}))
    logger.info("%d files of %s are converted from %s to PNG.", len(foreign), place.name, kinds, extra=FOR_PEOPLE)

    def write(item: tuple[str, Path]) -> DataError | None:
        stem, path = item
        try:
            (place / f"{stem}.png").write_bytes(convert(path))
        except ImageError as error:
            return DataError(f"{one_line(str(path))}: {error.message}", error.hint)
        return None

    problems = []
    with (
        tqdm(desc="Converting images", total=len(foreign), disable=None, leave=False) as bar,
        closing(map_in_order(write, foreign.items(), usable_cores(), 2 * usable_cores(), max_bytes=1)) as written,
    ):
        for problem in written:
            bar.update()
            raise_if_stopped()
            if problem:
                problems.append(problem)
    if problems:
        more = f" ({len(problems) - 1} more files cannot be converted.)" if len(problems) > 1 else ""
        raise DataError(problems[0].message, f"{problems[0].hint}{more}")
