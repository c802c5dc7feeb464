"""Finds the model that a user names, on this machine or in S3."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from semseg.artifact.archive import FILES, MAX_BYTES
from semseg.artifact.locate import model_directory
from semseg.artifact.misplaced import names_packed_model
from semseg.data.s3 import ObjectStore
from semseg.errors import ArtifactError, one_line
from semseg.files import scratch_folder

_OF_A_JOB = {f"model/{name}": max_bytes for name, max_bytes in FILES.items()}


@contextmanager
def located(place: str) -> Iterator[Path]:
    """Yields the model directory that a text names: a folder, a job's folder, a model.tar.gz, or one of them in S3.

    What is downloaded or unpacked is removed at the end. Raises ArtifactError, and DataError if S3 refuses or a file is
    larger than that of a model. An ArtifactError that is raised in the block names the place.
    """
    if not place.startswith("s3://"):
        with model_directory(Path(place)) as directory:
            yield directory
        return
    with scratch_folder() as scratch:
        with ObjectStore(caching=False) as store:
            store.download(place, scratch, partial(_files_of_model, place))
        archive = scratch / _last(place)
        downloaded = archive if archive.is_file() else scratch
        try:
            with model_directory(downloaded) as directory:
                yield directory
        except ArtifactError as error:
            # an address that the user knows
            error.message, error.hint = (
                text.replace(str(downloaded), one_line(place.rstrip("/"))) for text in (error.message, error.hint)
            )
            raise


def name_of(directory: Path, place: str) -> str:
    """What messages call the model directory that was found at a place: by itself, or, if it is a temporary one, by the
    place."""
    return str(directory) if Path(place).is_dir() else one_line(place)


def _files_of_model(place: str, names: Collection[str]) -> dict[str, int]:
    """The files to download of those at a place, with the most bytes of each: a file, or those of a model or a job."""
    if list(names) == [_last(place)]:
        return {_last(place): MAX_BYTES}
    found = {name: max_bytes for name, max_bytes in (FILES | _OF_A_JOB).items() if name in names}
    packed = sorted(name for name in names if names_packed_model(_last(name)))
    if packed and not found:
        raise ArtifactError(
            f"{one_line(place)} is not the folder of a model.",
            f"It has a packed one: give {one_line(place.rstrip('/'))}/{packed[0]}.",
        )
    return found


def _last(place: str) -> str:
    return place.rpartition("/")[2]
