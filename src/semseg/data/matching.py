"""Matches images with masks by stem, and explains what cannot be matched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.codecs.kinds import CONVERT
from semseg.data.files import printable
from semseg.data.normal_forms import by_form
from semseg.data.strays import AS_MASK, kind_of_file
from semseg.errors import DataError, one_line
from semseg.sagemaker.channels import readable

Files = Mapping[str, Path]
"""The files of a folder by stem."""


@dataclass(frozen=True)
class Matches:
    """Images with their masks, sorted by the image's stem, and a problem for each file without a partner."""

    pairs: tuple[tuple[Path, Path], ...]
    problems: tuple[DataError, ...]


def match(folders: tuple[Path, Path], image_of: Files, mask_of: Files, suffix_helps: bool = False) -> Matches:
    """Match images with masks: those of the same stem or, if there is only one of each, of the same normal form.

    folders: those of the images and of the masks, either of which may have no files, which is no problem here.
    suffix_helps: whether hints may name `--suffix`. Raises ChannelError for a folder that cannot be read.
    """
    images, masks = folders
    matched = matched_stems(image_of, mask_of)
    problems: list[DataError] = []
    if image_of and mask_of:
        hint = "" if matched else naming_hint(image_of, mask_of, suffix_helps)
        problems += _lone(image_of, matched, mask_of, masks, "annotation", hint)
        problems += _lone(mask_of, matched.values(), image_of, images, "image", hint)
    pairs = tuple((image_of[image], mask_of[mask]) for image, mask in sorted(matched.items()))
    return Matches(pairs, tuple(problems))


def matched_stems(image_of: Files, mask_of: Files) -> dict[str, str]:
    """Map the stem of each image to that of its mask: the same one, or else the only one of the same normal form."""
    matched = {stem: stem for stem in image_of.keys() & mask_of.keys()}
    lone_images, lone_masks = (by_form(files.keys() - matched.keys()) for files in (image_of, mask_of))
    for form in lone_images.keys() & lone_masks.keys():
        if len(lone_images[form]) == len(lone_masks[form]) == 1:
            matched[lone_images[form][0]] = lone_masks[form][0]
    return matched


def naming_hint(image_of: Files, mask_of: Files, suffix_helps: bool) -> str:
    """An example of two files that seem to belong together, such as a.jpg and a_mask.png, if no stem matches.

    image_of, mask_of: not empty. suffix_helps: whether `--suffix` may pair them.
    """
    images, masks = _cores(image_of), _cores(mask_of)
    for core in sorted(images.keys() & masks.keys()):
        image, mask = images[core], masks[core]
        ending = mask.stem.removeprefix(image.stem)
        option = f", or --suffix {one_line(ending)}" if suffix_helps and ending != mask.stem else ""
        return f"{printable(image)} seems to belong to {printable(mask)}: give both the same stem{option}."
    return ""


def _lone(
    files: Files, matched: Collection[str], partners: Files, directory: Path, partner: str, hint: str
) -> list[DataError]:
    """A problem for each file without a partner, with a hint if one in another format or spelling exists."""
    hint = hint or "Image and annotation must have the same name except for the suffix."
    capitals = {stem.casefold(): path for stem, path in partners.items()}
    lone = sorted(files.keys() - set(matched))
    alike = {stem for names in by_form(files).values() if len(names) > 1 for stem in names}
    with readable(directory.name):
        entries = [path for path in sorted(directory.iterdir()) if path.suffix] if lone else []
    own = set(files.values())  # both may be in one folder
    others = {path.stem: path for path in entries if path not in own}
    problems = []
    for stem in lone:
        message = f"{printable(files[stem])} has no {partner} in {directory.name}"
        if other := others.get(stem):
            kind = kind_of_file(other)
            what = kind.name if kind else "in a format that cannot be read"
            problems.append(
                DataError(f"{message}: {one_line(other.name)} is {what}.", CONVERT if partner == "image" else AS_MASK)
            )
        elif stem in alike:
            advice = f"Its name, {files[stem].name!a}, looks like that of another file: rename it."
            problems.append(DataError(f"{message}.", advice))
        elif other := capitals.get(stem.casefold()):
            problems.append(DataError(f"{message}: {one_line(other.name)} has other capitals.", hint))
        else:
            problems.append(DataError(f"{message}.", hint))
    return problems


def _cores(files: Files) -> dict[str, Path]:
    """Files by their stem without the beginning and the end that all stems share."""
    start = _shared_start(list(files))
    end = _shared_start([stem[start:][::-1] for stem in files])
    return {stem[start : len(stem) - end]: path for stem, path in files.items()}


def _shared_start(texts: list[str]) -> int:
    """The length of the common prefix of all texts, which is that of the smallest and the largest."""
    first, last = min(texts), max(texts)
    return next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
