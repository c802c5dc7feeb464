"""Finds the images and masks in a user's folders, which are not always laid out as channels are.

A folder without files of its own is searched with all folders below it, TIFF, WebP and BMP files count too, and the
names of masks may have a suffix.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from semseg.data.files import counts_as_file
from semseg.data.image_files import (
    CONVERTED,
    CONVERTED_MASKS,
    IMAGES,
    MASKS,
    files_below,
    images_among,
    is_converted,
    is_named,
    without_originals,
)
from semseg.errors import ChannelError, first_few, one_line
from semseg.sagemaker.channels import readable, visible

logger = logging.getLogger("semseg")

_SEPARATOR = "__"
"""Joins the folders in a name: ``night/0001.jpg`` becomes ``night__0001.jpg``."""


@dataclass(frozen=True)
class UserFolder:
    """The images or masks of a folder.

    files: by the stem of the name that they would have in a channel, sorted. others: what else is in the folder, except
    folders that were searched. suffixes: of the files that were looked for. is_channel: whether the folder can be a
    channel as it is.
    """

    path: Path
    files: Mapping[str, Path]
    others: tuple[Path, ...]
    suffixes: tuple[str, ...]
    is_channel: bool

    def only(self, stems: Iterable[str]) -> UserFolder:
        """The folder with these of its files."""
        return replace(self, files={stem: self.files[stem] for stem in sorted(stems)})


def find_images(name: str, folder: Path) -> UserFolder:
    """Find the images in a folder; name: the folder's in errors.

    Raises ChannelError if it cannot be read, or two images have the same name.
    """
    return _found(name, folder, (*IMAGES, *CONVERTED))


def find_pair(names: tuple[str, str], images: Path, masks: Path, suffix: str = "") -> tuple[UserFolder, UserFolder]:
    """Find the images and the masks in two folders, or in one.

    names: those of the folders in errors. suffix: what the stems of masks have after those of their images, such as
    ``_L``; masks without it are left out, with a warning unless both are in one folder. Raises ChannelError as
    `find_images` does, and if no mask has the suffix.
    """
    found = find_images(names[0], images)
    all_masks = _found(names[1], masks, (*MASKS, *CONVERTED_MASKS))
    if not (suffix and all_masks.files):
        return found, all_masks
    in_one = bool(found.files) and images.samefile(masks)
    named = _without_suffix(all_masks, suffix, warns=not in_one)
    if in_one:
        of_masks = {path.relative_to(masks) for path in named.files.values()}
        found = found.only(stem for stem, path in found.files.items() if path.relative_to(images) not in of_masks)
    return found, named


def _found(name: str, folder: Path, suffixes: tuple[str, ...]) -> UserFolder:
    with readable(name):
        is_folder = folder.is_dir()
        entries = visible(folder) if is_folder else []
        own = [path for path in entries if is_named(path, suffixes) and counts_as_file(path)]
        rest = sorted(set(entries) - set(own))
        nested = images_among(files_below(folder), suffixes) if is_folder and not own else []
        others = [path for path in rest if not (nested and path.is_dir())]
    found = nested or without_originals(own)
    files: dict[str, Path] = {}
    for path in found:
        flat = PurePath(_SEPARATOR.join(path.relative_to(folder).parts))
        if other := files.get(flat.stem):
            same = f"would have the same name, {one_line(flat.name)}, in one folder" if nested else "have the same name"
            raise ChannelError(f"{one_line(str(path))} and {one_line(str(other))} {same}.", "Rename one of them.")
        files[flat.stem] = path
    is_channel = not (nested or any(map(is_converted, own)))
    return UserFolder(folder, dict(sorted(files.items())), tuple(others), suffixes, is_channel)


def _without_suffix(masks: UserFolder, suffix: str, warns: bool) -> UserFolder:
    """The masks whose stems end with the suffix, by their stems without it."""
    end = PurePath(f"x{suffix}").suffix
    ending = suffix.removesuffix(end) if end.lower() in masks.suffixes else suffix
    named = {stem: path for stem, path in masks.files.items() if stem.endswith(ending) and stem != ending}
    left = [one_line(path.name) for stem, path in masks.files.items() if stem not in named]
    if not named:
        raise ChannelError(
            f"No mask in {one_line(str(masks.path))} has a name that ends with {ending!r}: {first_few(left, 3)}.",
            "Give --suffix what the names of masks have after those of their images.",
        )
    if left and warns:
        logger.warning("Masks whose names do not end with %r are left out: %s", ending, first_few(left))
    return replace(masks, files={stem.removesuffix(ending): path for stem, path in named.items()})
