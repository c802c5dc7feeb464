"""Replaces paths inside the job folder by the paths that the user gave, in log lines and errors."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from semseg.data.arrangement import origin
from semseg.data.label_map_files import LABEL_MAP_NAMES
from semseg.data.local_job import visible_name
from semseg.errors import SemsegError, one_line
from semseg.files import LONGEST_NAME
from semseg.sagemaker.channels import ANNOTATIONS, SPLITS, TEST
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths

_OPTIONS = "the options"
_WORD = re.compile(r"[^\s:,;/'\")]*")
_BREAK = re.compile(r"[\s:,;'\")]")


@contextmanager
def with_user_paths(paths: Paths, channels: Mapping[str, str]) -> Iterator[Callable[[str], str]]:
    """Within the block, log lines and errors name the sources in `channels`, not the folders below `paths`.

    Yields what does this to a text.
    channels: the folder, file or ``s3://bucket/prefix`` that the user gave, by channel name.
    """
    sources = _sources(paths, channels)
    longest_first = "|".join(map(re.escape, sorted(sources, key=len, reverse=True)))
    found = re.compile(rf"(?<![^\s'\"(])(?:{longest_first})")  # only at the start of a path

    def renamed(text: str) -> str:
        return found.sub(lambda match: sources[match[0]], _with_linked_files(text, paths, channels))

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = renamed(record.getMessage()), None
        return True

    LOGGER.addFilter(rename)
    try:
        yield renamed
    except SemsegError as error:
        error.message, error.hint = renamed(error.message), renamed(error.hint)
        raise
    finally:
        LOGGER.removeFilter(rename)


def _with_linked_files(text: str, paths: Paths, channels: Mapping[str, str]) -> str:
    """Replaces files of channels by the user's: those that `data.arrangement` made, and those of a linked folder."""
    names = [name for name in (*SPLITS, *ANNOTATIONS, *TEST) if not Path(channels.get(name, "")).is_file()]
    folder = re.escape(str(paths.channel("")))
    pieces, done = [], 0
    for found in re.finditer(rf"(?<![^\s'\"(])(?:{folder}/)?({'|'.join(names)})/", text):
        file = _file_of(paths.channel(found[1]), text[found.end() :], channels.get(found[1]))
        if file and found.start() >= done:
            own, name = file
            pieces += [text[done : found.start()], one_line(str(own))]
            done = found.end() + len(name)
    return "".join([*pieces, text[done:]])


def _file_of(channel: Path, text: str, folder: str | None) -> tuple[Path, str] | None:
    """The user's file that the beginning of a text names, and its name in the channel; None if it names none.

    folder: the user's, if any. Of an arranged channel the longest name counts that a file has: names may have spaces
    and colons.
    """
    if not channel.is_symlink():
        named = ((origin(channel, name), name) for name in _beginnings(text))
        return next(((own, name) for own, name in named if own), None)
    name = _WORD.match(text)[0].rstrip(".")  # type: ignore[index]  # it matches the empty text too
    return (Path(folder, name), name) if folder and name else None


def _beginnings(text: str) -> Iterator[str]:
    """Yields what may be a name at the beginning of a text, the longest first."""
    most = re.match(rf"[^/\n]{{0,{LONGEST_NAME}}}", text)[0]  # type: ignore[index]  # it matches the empty text too
    for end in (len(most), *(match.start() for match in reversed(list(_BREAK.finditer(most))))):
        name = most[:end].rstrip(".")
        if name and len(os.fsencode(name)) <= LONGEST_NAME:
            yield name


def _sources(paths: Paths, channels: Mapping[str, str]) -> dict[str, str]:
    """What the user gave, by the path inside the job folder."""
    sources = {str(paths.channel("")): _OPTIONS, str(paths.hyperparameters): _OPTIONS}
    for name, given in channels.items():
        channel, source = paths.channel(name), one_line(given).rstrip("/")
        if Path(given).is_file():
            names = (visible_name(Path(given)), *LABEL_MAP_NAMES)
            sources |= {str(channel / entry): source for entry in names}
            sources |= {f"{name}/{entry}": source for entry in names}  # as errors name files
        else:
            sources[str(channel)] = source
    return sources
