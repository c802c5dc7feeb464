from __future__ import annotations

import errno
import os
import tarfile
from pathlib import Path
from unittest.mock import patch

import pytest

from semseg.artifact.locate import model_directory
from semseg.errors import ArtifactError

FILES = ("model_best.params", "hyperparams.json", "model.onnx", "model_int8.onnx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The model directory of a job."""
    directory = tmp_path / "job/model"
    directory.mkdir(parents=True)
    for name in FILES:
        (directory / name).write_text(name)
    return directory


@pytest.fixture
def archive(model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name in FILES:
            packed.add(model / name, name)
    return path


def test_a_model_directory_is_itself_and_a_job_has_its_own(model: Path) -> None:
    for place in (model, model.parent):
        with model_directory(place) as directory:
            assert directory == model
    (model.parent / FILES[0]).touch()
    with model_directory(model.parent) as directory:
        assert directory == model.parent


def test_a_folder_without_a_model_is_left_to_its_reader_which_says_what_is_there(tmp_path: Path) -> None:
    with model_directory(tmp_path) as directory:
        assert directory == tmp_path


def test_an_archive_is_unpacked_with_its_onnx_files_and_removed_at_the_end(archive: Path) -> None:
    with model_directory(archive) as directory:
        assert {path.name for path in directory.iterdir()} == set(FILES)
        assert (directory / "model.onnx").read_text() == "model.onnx"
    assert not directory.exists()


def test_a_disk_that_is_full_is_named_by_its_own_folder(archive: Path, tmp_path: Path) -> None:
    """Not by the archive, whose folder may have space."""
    (tmp_path / "scratch").mkdir()
    with (
        patch("tempfile.tempdir", str(tmp_path / "scratch")),
        patch.object(Path, "open", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(ArtifactError, match=rf"{archive} cannot be unpacked into {tmp_path}/scratch/.*: No space left"),
        model_directory(archive),
    ):
        pass


def test_an_error_names_the_archive(archive: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=rf"^{archive}/model_best\.params is damaged\.$"),
        model_directory(archive) as d,
    ):
        raise ArtifactError(f"{d}/model_best.params is damaged.")
    archive.write_bytes(b"text")
    with (
        pytest.raises(
            ArtifactError,
            match=rf"^{archive} is no packed model: it holds text\. Give the folder of a model or of a job, or",
        ),
        model_directory(archive),
    ):
        pass


@pytest.mark.parametrize("name", ["none", "pipe.tar.gz"])
def test_a_place_without_anything_is_an_error(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar.gz")
    with (
        pytest.raises(ArtifactError, match=rf"^There is no model at {tmp_path}/{name}\. Give"),
        model_directory(tmp_path / name),
    ):
        pass
