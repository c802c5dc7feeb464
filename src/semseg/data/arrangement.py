"""Makes channels of folders that are laid out otherwise: nested, with other names and formats, without validation.

A channel has its files in one folder, JPEG or PNG images and PNG masks of the same stem. A file that can be used as it
is becomes a link; TIFF, WebP and BMP files are converted to PNG.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from tqdm import tqdm

from semseg.codecs.conversion import image_to_png, is_cut, mask_to_png
from semseg.data.files import LocalFile, naming
from semseg.data.image_files import CONVERTED, is_converted
from semseg.data.matching import matched_stems, naming_hint
from semseg.data.report import Report
from semseg.data.strays import KNOWN, nothing_found
from semseg.data.threads import map_in_order
from semseg.data.user_folders import UserFolder, find_pair
from semseg.errors import ChannelError, DataError, count_of, first_few, one_line
from semseg.files import LONGEST_NAME
from semseg.machine import usable_cores
from semseg.sagemaker.log_lines import FOR_PEOPLE

logger = logging.getLogger("semseg")

_LONGEST_SUFFIX = ".jpeg"
_ADD_PAIRS = (
    "Give image and mask the same name except for the suffix, add pairs, or give folders for validation with "
    "--validation and --validation-annotation."
)


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


def arrange(
    sources: Mapping[str, str],
    channel: Callable[[str], Path],
    arrangement: Arrangement,
    raise_if_stopped: Callable[[], None] = lambda: None,
) -> frozenset[str]:
    """Make those channels of images and masks that cannot be links to their folders; return their names.

    sources: the user's folder, file or address by channel; only pairs of folders on this machine are looked at.
    channel: the place of a channel, by name. Files that are not paired stay, for the data check to report.
    Raises ChannelError if the arrangement does not fit the folders, DataError for files that cannot be converted and,
    if pairs are to be divided, for a folder without files, and what `raise_if_stopped` raises.
    """
    _require_folders(sources, arrangement)
    made: dict[str, UserFolder] = {}
    for name in ("train", "validation", "test"):
        masks_name = f"{name}_annotation"
        if not all(_is_folder(sources.get(one)) for one in (name, masks_name)):
            continue
        folders = Path(sources[name]), Path(sources[masks_name])
        images, masks = find_pair((name, masks_name), *folders, arrangement.suffix)
        if arrangement.split and name == "train":
            made |= _split(images, masks, arrangement.split)
        elif arrangement.suffix or not (images.is_channel and masks.is_channel):
            made |= {name: images, masks_name: masks}
    problems: list[DataError] = []
    for name, folder in made.items():
        problems += _make(channel(name), folder, name.endswith("_annotation"), raise_if_stopped)
    if len(problems) == 1:
        raise problems[0]
    Report((), tuple(problems), ()).raise_problems()
    return frozenset(made)


def origin(channel: Path, name: str) -> Path | None:
    """The user's file of which `arrange` made a file of a channel; None in a channel that is a link to a folder."""
    links = () if channel.is_symlink() else (channel / name, _originals(channel) / name)
    return next((link.readlink() for link in links if link.is_symlink()), None)


def _originals(channel: Path) -> Path:
    """A hidden folder beside a channel: links from the names of its converted files to the user's files."""
    return channel.with_name(f".{channel.name}")


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


def _split(images: UserFolder, masks: UserFolder, share: float) -> dict[str, UserFolder]:
    """Train and validation: each pair's place depends on its name alone, so it stays when others are added."""
    for folder in (images, masks):
        if not folder.files:
            raise nothing_found(one_line(str(folder.path)), folder.path, folder.suffixes, folder.others)
    mask_of = matched_stems(images.files, masks.files)
    stems = sorted(mask_of, key=_digest)
    if len(stems) < 2:
        raise ChannelError(
            f"--split needs at least 2 images with a mask of the same name, one for each side, not {len(stems)}. "
            f"{_content(images, 'image')} {_content(masks, 'mask')}",
            ("" if stems else naming_hint(images.files, masks.files, suffix_helps=True)) or _ADD_PAIRS,
        )
    count = min(max(1, round(share * len(stems))), len(stems) - 1)
    validation = frozenset(stems[:count])
    validation_masks = frozenset(mask_of[stem] for stem in validation)
    logger.info("%d of %d pairs are for validation.", count, len(stems), extra=FOR_PEOPLE)
    beside = tuple(path for path in masks.others if path.name in KNOWN)  # what is reported belongs to one side alone
    return {
        "train": images.only(images.files.keys() - validation),
        "train_annotation": masks.only(masks.files.keys() - validation_masks),
        "validation": replace(images.only(validation), others=()),
        "validation_annotation": replace(masks.only(validation_masks), others=beside),
    }


def _content(folder: UserFolder, noun: str) -> str:
    """A sentence on how many files a folder has, and some of their names."""
    names = first_few([one_line(path.name) for path in folder.files.values()], 3)
    return f"{one_line(str(folder.path))} has {count_of(len(folder.files), noun)}: {names}."


def _digest(stem: str) -> str:
    """What decides on which side of a split a pair is; the same for both normal forms of a name."""
    return hashlib.sha256(normalize("NFC", stem).encode("utf-8", "surrogateescape")).hexdigest()


def _channel_name(stem: str, suffix: str) -> str:
    """The name of a file in a channel: with its folders, or a digest in place of them if that is too long."""
    name = f"{stem}{suffix}"
    return name if len(os.fsencode(stem)) + len(_LONGEST_SUFFIX) <= LONGEST_NAME else f"{_digest(stem)}{suffix}"


def _make(place: Path, folder: UserFolder, of_masks: bool, raise_if_stopped: Callable[[], None]) -> list[DataError]:
    """Make a channel: links to the files, and PNG files of those in other formats. Returns what cannot be converted."""
    place.mkdir(parents=True)
    foreign = {stem: path for stem, path in folder.files.items() if is_converted(path)}
    for stem, path in folder.files.items():
        if stem not in foreign:
            _link(place / _channel_name(stem, path.suffix), path)
    for path in folder.others:
        _link(place / path.name, path)
    if not foreign:
        return []
    _originals(place).mkdir()
    for stem, path in foreign.items():
        _link(_originals(place) / _channel_name(stem, ".png"), path)
    return _convert(place, foreign, mask_to_png if of_masks else image_to_png, raise_if_stopped)


def _link(place: Path, file: Path) -> None:
    """Link to a user's file, by the name that the user knows, even if that is a link too."""
    place.symlink_to(file.parent.resolve() / file.name)


def _convert(
    place: Path, files: Mapping[str, Path], convert: Callable[[bytes], bytes], raise_if_stopped: Callable[[], None]
) -> list[DataError]:
    """Write the PNG files of files in other formats, by stem, and return the problems."""
    kinds = " and ".join(sorted({CONVERTED[path.suffix.lower()] for path in files.values()}))
    logger.info("%d files of %s are converted from %s to PNG.", len(files), place.name, kinds, extra=FOR_PEOPLE)
    cut: list[str] = []

    def write(item: tuple[str, Path]) -> DataError | None:
        stem, path = item
        file = LocalFile(path, given=str(path))
        try:
            with naming(file):
                content = file.read()
                (place / _channel_name(stem, ".png")).write_bytes(convert(content))
                if is_cut(content):
                    cut.append(file.name)
        except DataError as error:
            return error
        return None

    problems: list[DataError] = []
    with (
        tqdm(desc="Converting images", total=len(files), disable=None, leave=False) as bar,
        closing(map_in_order(write, files.items(), usable_cores(), 2 * usable_cores(), max_bytes=1)) as written,
    ):
        for problem in written:
            bar.update()
            raise_if_stopped()
            if problem:
                problems.append(problem)
    if cut:
        logger.warning(
            "%s: of 16 bits, only the upper 8 are used. If their values end far below 65535, as those of 12 bits do, "
            "stretch them first.",
            first_few(sorted(cut)),
        )
    return problems
