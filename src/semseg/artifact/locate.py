"""Finds the model that a user names: a model directory, the folder of a job, or a model.tar.gz."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg.artifact.archive import unpack
from semseg.artifact.model_dir import files_of_model
from semseg.errors import ArtifactError, one_line
from semseg.files import scratch_folder
from semseg.sagemaker.paths import Paths


@contextmanager
def model_directory(place: Path) -> Iterator[Path]:
    """Yield the model directory at a place.

    It is the folder itself, or its folder `model` if that holds a model and it does not, or the content of an archive
    (*.tar.gz, *.tgz or *.tar), which is unpacked into a temporary folder and removed at the end; files that are mapped
    by then stay readable. Raises ArtifactError for a place that does not exist and for an archive without a model. One
    that is raised in the block names the archive.
    """
    if place.is_dir():
        job = Paths(place).model
        yield job if files_of_model(job) and not files_of_model(place) else place
        return
    if not place.is_file():
        raise ArtifactError(
            f"There is no model at {one_line(str(place))}.",
            "Give the folder of a model or of a job, or a model.tar.gz.",
        )
    with scratch_folder() as scratch:
        unpack(place, scratch, to_serve=True)
        try:
            yield scratch
        except ArtifactError as error:
            error.message = error.message.replace(str(scratch), one_line(str(place)))  # a path that the user knows
            raise
