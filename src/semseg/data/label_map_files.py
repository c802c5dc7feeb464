"""Finds the label map of a split, and the names of the classes, among the files of its channels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semseg.data.class_names import FILES as CLASS_FILES
from semseg.data.class_names import read_classes
from semseg.data.files import counts_as_file, printable
from semseg.data.label_map import DEFAULT, LabelMap, parse_label_map, read_label_map
from semseg.errors import DataError, first_few
from semseg.sagemaker.channels import SPLITS, TEST, readable, visible
from semseg.sagemaker.log_lines import FOR_PARSERS

logger = logging.getLogger("semseg")

COMMON_NAME = "label_map.json"
LABEL_MAP_NAMES = (*(f"{split}_{COMMON_NAME}" for split in (*SPLITS, TEST[0])), COMMON_NAME)
"""The file names of label maps: one for each split, and one for all splits."""


def find_label_map(
    channel: str,
    annotation: Path | None,
    label_map: Path | None,
    num_classes: int,
    default: LabelMap | None = None,
) -> LabelMap:
    """Find and read the label map of ``train``, ``validation`` or ``test``.

    label_map: the directory of the channel ``label_map``; None if it is not given. annotation: the directory of the
    annotation channel; None with a manifest or in Pipe mode. The first of these files is read:
    ``label_map/<channel>_label_map.json``, ``label_map/label_map.json``, ``annotation/label_map.json``.
    Without any it is `default`, if given, or else scale 1, with a warning for these channels, as in the built-in
    algorithm. For ``test``, which that does not have, it is an error if the other splits have maps: its own was
    probably forgotten.

    The names of the classes are those of the map, or else of the first of `class_names.FILES` in either directory;
    invalid ones in the annotation channel are ignored with a warning.

    Raises DataError for an invalid or forgotten map, for invalid names in the label_map channel, and for a `label_map`
    directory with neither one of `LABEL_MAP_NAMES` nor names; ChannelError for a directory that cannot be read.
    """
    with readable(channel):
        if label_map is not None:
            _require_known_name(label_map)
        folders = [folder for folder in (label_map, annotation) if folder]
        candidates = [folder / COMMON_NAME for folder in folders]
        if label_map is not None:
            candidates = [label_map / f"{channel}_{COMMON_NAME}", *candidates]
        maps = [path for path in candidates if counts_as_file(path)]
        names = [folder / name for folder in folders for name in CLASS_FILES if counts_as_file(folder / name)]
    _warn_of_ignored(maps, channel)
    found = read_label_map(maps[0], num_classes) if maps else default or _default(channel, label_map, num_classes)
    if found.given:
        _warn_of_ignored([maps[0], *names], channel)
    elif names:
        _warn_of_ignored(names, channel)
        try:
            return replace(found, given=read_classes(names[0], num_classes))
        except DataError as error:
            if names[0].parent == label_map:
                raise
            # The built-in algorithm ignored such a file, and another tool may have left it.
            logger.warning("The classes have no names: %s", error)
    return found


def _default(channel: str, label_map: Path | None, num_classes: int) -> LabelMap:
    """The label map of a channel that has none. Raises DataError if other splits have one and this one should, too."""
    has_maps = label_map is not None and any(counts_as_file(label_map / name) for name in LABEL_MAP_NAMES)
    if label_map is not None and has_maps and channel == TEST[0]:
        raise _forgotten(channel, label_map)
    if channel in (*SPLITS, TEST[0]):  # the warning is a line of the built-in algorithm's log
        _warn_of_default(channel, label_map if has_maps else None)
    return parse_label_map(DEFAULT, num_classes, "the default label map")


def _warn_of_ignored(found: Sequence[Path], channel: str) -> None:
    for path in found[1:]:
        logger.warning("%s is ignored for %s: %s takes precedence.", path, channel, found[0])


def _require_known_name(label_map: Path) -> None:
    if any(counts_as_file(label_map / name) for name in (*LABEL_MAP_NAMES, *CLASS_FILES)):
        return
    found = [printable(path) for path in visible(label_map)] if label_map.is_dir() else []
    raise DataError(
        f"The label_map channel has no label map; it contains {first_few(found)}.",
        f"Name the files {' and '.join(LABEL_MAP_NAMES[:2])}.",
    )


def _forgotten(channel: str, label_map: Path) -> DataError:
    others = [printable(label_map / name) for name in LABEL_MAP_NAMES if counts_as_file(label_map / name)]
    return DataError(
        f"The label_map channel has {first_few(others)}, but no map for {channel}.",
        f"Add {channel}_{COMMON_NAME}, or name a map for all splits {COMMON_NAME}; "
        f'where pixel values are the classes, the map is {{"scale": 1}}.',
    )


def _warn_of_default(channel: str, label_map: Path | None) -> None:
    if label_map is None:
        logger.warning("label maps not provided, using defaults.", extra=FOR_PARSERS)
    else:
        logger.warning("the label_map channel has no map for %s, using the default %s.", channel, DEFAULT)
