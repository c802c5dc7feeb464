from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from killed import Killed, killed_at

from semseg.artifact import model_dir
from semseg.errors import DiskFullError
from semseg.sagemaker import hyperparameters
from semseg.training.artifact_writer import ArtifactWriter
from semseg.types import Classes


def new(path: Path) -> None:
    path.write_text("new")


def test_what_an_earlier_run_left_goes_when_there_is_a_new_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old model.onnx does not match new parameters, nor a new hyperparams.json old ones."""
    old = ["model_best.params", "model_algo-1", "model.onnx", "model_int8.onnx", "classes.json", "notes.txt"]
    for name in old:
        (tmp_path / name).write_text("old")
    settings, _ = hyperparameters.parse({"num_classes": "3"})
    artifact = ArtifactWriter(tmp_path, settings, Classes.unknown(3), lambda event: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(old)
    with caplog.at_level("WARNING", logger="semseg"):
        artifact.save("model_best.params", new)
    assert {path.name: path.read_text()[:3] for path in tmp_path.iterdir() if path.suffix != ".json"} == {
        "model_best.params": "new",
        "notes.txt": "old",
    }
    assert f"Removing {tmp_path / 'model.onnx'}, left by an earlier run." in caplog.messages


FILES = (
    "model_best.params",
    "model_algo-1",
    "model.onnx",
    "model_int8.onnx",
    "hyperparams.json",
    "classes.json",
    "label_maps.json",
    "README.md",
)
NAMES = ("background", "scratch", "dent")


def an_earlier_model(directory: Path) -> None:
    directory.mkdir()
    for name in FILES:
        (directory / name).write_text("old")


def writer(directory: Path, **more: Any) -> ArtifactWriter:
    settings, _ = hyperparameters.parse({"num_classes": "3"})
    return ArtifactWriter(directory, settings, Classes(NAMES, (None,) * 3), lambda event: None, **more)


@pytest.mark.parametrize("name", ["model_best.params", "model_algo-1"])
def test_killed_at_any_moment_it_leaves_one_model(tmp_path: Path, name: str) -> None:
    """There are always parameters to serve, and no file of the other run that describes them."""
    states = set()
    for moment in itertools.count(1):
        directory = tmp_path / str(moment)
        an_earlier_model(directory)
        try:
            with killed_at(moment, (Path, "unlink"), (Path, "replace")):
                writer(directory).save(name, new)
            break
        except Killed:
            pass
        found = {path.name: path.read_text() for path in directory.iterdir() if not path.name.endswith(".partial")}
        served = next(file for file in ("model_best.params", "model_algo-1") if file in found)
        others = {found[file][:3] for file in found.keys() - {"model_best.params", "model_algo-1"}}
        assert found[served] in ("old", "new")
        assert others <= ({"old"} if found[served] == "old" else {"{\n "})
        states.add((found[served], len(others)))
    assert moment > 8
    assert states >= {("old", 1), ("old", 0), ("new", 0), ("new", 1)}


def test_what_is_entered_for_the_change_lasts_as_long(tmp_path: Path) -> None:
    an_earlier_model(tmp_path / "model")
    seen: list[dict[str, str]] = []

    def look() -> None:
        files = (tmp_path / "model").iterdir()
        seen.append({path.name: path.read_text() for path in files if not path.name.startswith(".")})

    @contextmanager
    def replacing_earlier() -> Iterator[None]:
        look()
        yield
        look()

    artifact = writer(tmp_path / "model", replacing_earlier=replacing_earlier)
    assert not artifact.has_model
    for _ in range(2):
        artifact.save("model_best.params", new)
        assert artifact.has_model
    before, after = seen
    assert before == dict.fromkeys(FILES, "old")
    assert after.keys() == {"model_best.params", "hyperparams.json", "classes.json"}
    assert after["model_best.params"] == "new"
    assert json.loads(after["classes.json"]) == {"classes": list(NAMES)}


def test_label_maps_are_kept_beside_the_first_parameters(tmp_path: Path) -> None:
    label_maps = {"train": {"scale": 3}, "validation": {"scale": 3}}
    writer(tmp_path, label_maps=label_maps).save("model_best.params", new)
    assert json.loads((tmp_path / "label_maps.json").read_text()) == label_maps


@pytest.mark.parametrize("full", ["the parameters", "what is beside them"])
def test_a_full_disk_leaves_the_earlier_model_whole(tmp_path: Path, full: str) -> None:
    an_earlier_model(tmp_path / "model")

    def write(path: Path) -> None:
        new(path)
        if full == "the parameters":
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def replacing_earlier() -> Iterator[None]:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    artifact = writer(tmp_path / "model", replacing_earlier=replacing_earlier)
    with pytest.raises(DiskFullError):
        artifact.save(model_dir.BEST, write)
    assert not artifact.has_model
    assert {path.name: path.read_text() for path in (tmp_path / "model").iterdir()} == dict.fromkeys(FILES, "old")
