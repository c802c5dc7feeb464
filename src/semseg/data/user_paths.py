"""The places that a user gave for the channels of a job, in place of those where it was laid out, in what is logged."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from semseg.data.label_map import LABEL_MAP_NAMES
from semseg.data.local_job import visible_name
from semseg.errors import SemsegError, one_line
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths

_OPTIONS = "the options"


@contextmanager
def with_user_paths(paths: Paths, channels: Mapping[str, str]) -> Iterator[None]:
    """Have the log and the errors of the block name the places in `channels`, not the folders laid out below `paths`.

    channels: by name, the folder, file or ``s3://bucket/prefix`` that was given.
    """
    places = _places(paths, channels)
    longest_first = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    found = re.compile(rf"(?<![^\s'\"(])(?:{longest_first})")  # where a path begins, not within one

    def renamed(text: str) -> str:
        return found.sub(lambda match: places[match[0]], text)

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = renamed(record.getMessage()), None
        return True

    LOGGER.addFilter(rename)
    try:
        yield
    except SemsegError as error:
        error.message, error.hint = renamed(error.message), renamed(error.hint)
        raise
    finally:
        LOGGER.removeFilter(rename)


def _places(paths: Paths, channels: Mapping[str, str]) -> dict[str, str]:
    """What the user gave, by the path of what was made of it."""
    places = {str(paths.channel("")): _OPTIONS, str(paths.hyperparameters): _OPTIONS}
    for name, given in channels.items():
        channel, source = paths.channel(name), one_line(given).rstrip("/")
        if Path(given).is_file():
            names = (visible_name(Path(given)), *LABEL_MAP_NAMES)
            places |= {str(channel / entry): source for entry in names}
            places |= {f"{name}/{entry}": source for entry in names}  # as errors name files
        else:
            places[str(channel)] = source
    return places
