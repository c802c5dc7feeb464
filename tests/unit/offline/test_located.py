"""Which files of a place in S3 are downloaded, and what is said of those that are no model's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import ArtifactError, DataError
from semseg.offline import located as module
from semseg.offline.located import located, name_of


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of the process, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def put(bucket: Any, *keys: str) -> None:
    for key in keys:
        bucket.put_object(Key=key, Body=key.encode())


@pytest.mark.parametrize("place", ["s3://bucket/job", "s3://bucket/job/", "s3://bucket/job/model"])
def test_of_a_job_the_files_of_its_model_are_downloaded(bucket: Any, temporary: Path, place: str) -> None:
    names = ["classes.json", "model.onnx", "model_algo-1", "model_best.params"]
    put(bucket, *(f"job/model/{name}" for name in [*names, "README.md", "notes/a.txt"]), "job/input/data/train/a.jpg")
    with located(place) as directory:
        assert sorted(path.name for path in directory.iterdir()) == names
        assert [path.name for path in temporary.rglob("*.jpg")] == []
        assert name_of(directory, place) == place
    assert not list(temporary.iterdir())


def test_the_folder_of_a_packed_model_leads_to_it(bucket: Any, temporary: Path) -> None:
    """As the platform writes it, with what else the job has written."""
    put(bucket, "job/output/model.tar.gz", "job/output/output.tar.gz", "job/profiler-output/system.json")
    with (
        pytest.raises(
            ArtifactError,
            match=r"^s3://bucket/job/ is not the folder of a model\. It has a packed one: give "
            r"s3://bucket/job/output/model\.tar\.gz\.$",
        ),
        located("s3://bucket/job/"),
    ):
        pass
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("place", ["s3://bucket/model.tar.gz", "s3://bucket/model"])
def test_what_is_larger_than_a_model_is_not_downloaded(
    bucket: Any, temporary: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 5)
    monkeypatch.setattr(module, "FILES", {"model_best.params": 5})
    put(bucket, "model.tar.gz", "model/model_best.params")
    with (
        pytest.raises(DataError, match=rf"^{place}\S* has \d+ bytes, more than the 5 allowed\.$"),
        located(place),
    ):
        pass
    assert not list(temporary.iterdir())


def test_a_folder_has_its_own_name_and_an_archive_that_of_its_place(tmp_path: Path) -> None:
    assert name_of(tmp_path / "job/model", str(tmp_path)) == f"{tmp_path}/job/model"
    assert name_of(tmp_path / "semseg-1", "model\n.tar.gz") == r"'model\n.tar.gz'"
