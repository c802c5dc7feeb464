from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import UserError
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.paths import Paths


def configured(base: Path, config: Any) -> Paths:
    paths = Paths(base)
    paths.checkpoint_config.parent.mkdir(parents=True)
    paths.checkpoint_config.write_text(json.dumps(config))
    return paths


def test_without_the_file_there_are_no_checkpoints(tmp_path: Path) -> None:
    assert read_checkpoint_directory(Paths(tmp_path)) is None


@pytest.mark.parametrize("given", ["/opt/ml/checkpoints", "/opt/ml/checkpoints/", "/data/Prüfpunkte 1"])
def test_the_local_path_is_the_directory(tmp_path: Path, given: str) -> None:
    config = {"S3Uri": "s3://bucket/checkpoints", "LocalPath": given}
    assert read_checkpoint_directory(configured(tmp_path, config)) == Path(given)


def test_without_a_local_path_it_is_the_platforms_default(tmp_path: Path) -> None:
    paths = configured(tmp_path, {"S3Uri": "s3://bucket/checkpoints"})
    assert read_checkpoint_directory(paths) == tmp_path / "checkpoints"


@pytest.mark.parametrize(
    "given", ["", "checkpoints", "/", "//", "/opt/../etc", "/opt/\n", "/opt/\0", f"/{4096 * 'a'}", 7, ["/opt"], {}]
)
def test_anything_else_is_refused(tmp_path: Path, given: object) -> None:
    with pytest.raises(UserError, match=r"checkpointconfig\.json: the LocalPath .* is not an absolute path"):
        read_checkpoint_directory(configured(tmp_path, {"LocalPath": given}))


def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpointconfig\.json must hold a JSON object"):
        read_checkpoint_directory(configured(tmp_path, ["/opt/ml/checkpoints"]))
