"""Finds the model that a user names, on this machine or in S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from semseg.artifact.locate import model_directory
from semseg.data.s3 import ObjectStore
from semseg.errors import ArtifactError, one_line


@contextmanager
def located(place: str) -> Iterator[Path]:
    """Yields the model directory that a text names: a folder, a job's folder, a model.tar.gz, or one of them in S3.

    What is downloaded or unpacked is removed at the end. Raises ArtifactError, and DataError if S3 refuses. An
    ArtifactError that is raised in the block names the place.
    """
    if not place.startswith("s3://"):
        with model_directory(Path(place)) as directory:
            yield directory
        return
    with TemporaryDirectory(prefix="semseg-") as scratch:
        with ObjectStore(caching=False) as store:
            store.download(place, Path(scratch))
        archive = Path(scratch) / place.rpartition("/")[2]
        downloaded = archive if archive.is_file() else Path(scratch)
        try:
            with model_directory(downloaded) as directory:
                yield directory
        except ArtifactError as error:
            # an address that the user knows
            error.message, error.hint = (
                text.replace(str(downloaded), one_line(place.rstrip("/"))) for text in (error.message, error.hint)
            )
            raise
