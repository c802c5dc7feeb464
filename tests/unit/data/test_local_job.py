from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from killed import Killed, killed_at

from semseg.data.local_job import is_foreign, is_laid_out_for, lay_out
from semseg.data.s3 import ObjectStore
from semseg.errors import ChannelError
from semseg.sagemaker.channels import read_channels
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.paths import Paths


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of images, a manifest and a label map."""
    (tmp_path / "data/images").mkdir(parents=True)
    for name in ("images/a.jpg", "my.manifest", "my labels.json"):
        (tmp_path / "data" / name).write_text("{}")
    return tmp_path / "data"


def lay(job: Path, channels: dict[str, Path]) -> Paths:
    with ObjectStore() as store:
        lay_out(Paths(job), {name: str(path) for name, path in channels.items()}, {"num_classes": "4"}, store)
    return Paths(job)


def test_folders_and_files_become_channels(data: Path, tmp_path: Path) -> None:
    channels = {
        "train": data / "my.manifest",
        "validation": data / "images",
        "validation_annotation": data / "images",
        "label_map": data / "my labels.json",
    }
    paths = lay(tmp_path / "new/job", channels)
    found = read_channels(paths)
    assert json.loads(paths.hyperparameters.read_text()) == {"num_classes": "4"}
    assert found.train.manifest
    assert found.train.manifest.resolve() == data / "my.manifest"
    assert (found.validation.images / "a.jpg").read_text() == "{}"
    assert found.label_map
    assert (found.label_map / "label_map.json").read_text() == "{}"


def test_checkpoints_have_a_directory_if_one_is_given(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = lay(tmp_path / "without", {"train": data / "images"})
    assert read_checkpoint_directory(paths) is None
    monkeypatch.chdir(tmp_path)
    paths = Paths(tmp_path / "job")
    with ObjectStore() as store:
        lay_out(paths, {"train": str(data / "images")}, {}, store, checkpoints=Path("kept"))
    assert read_checkpoint_directory(paths) == tmp_path / "kept"


def test_the_default_directory_of_checkpoints_moves_with_the_job(data: Path, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "job")
    with ObjectStore() as store:
        lay_out(paths, {"train": str(data / "images")}, {}, store, paths.checkpoints)
    paths.base.rename(tmp_path / "moved")
    assert read_checkpoint_directory(Paths(tmp_path / "moved")) == tmp_path / "moved/checkpoints"


def test_it_knows_what_a_job_was_laid_out_from(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = lay(tmp_path / "job", {"train": data / "images"})
    monkeypatch.chdir(data)
    for channels, hyperparameters, same in (
        ({"train": "images"}, {"num_classes": "4"}, True),
        ({"train": "."}, {"num_classes": "4"}, False),
        ({"train": "images", "test": "images"}, {"num_classes": "4"}, False),
        ({"train": "images"}, {"num_classes": "5"}, False),
        ({"train": "images"}, {}, False),
    ):
        assert is_laid_out_for(paths, channels, hyperparameters) == same
    (mark,) = (path for path in (paths.base / "input").iterdir() if path.is_file())
    for damaged in ("", "{", "[]", "{}"):  # an earlier version left it empty
        mark.write_text(damaged)
        assert not is_laid_out_for(paths, {"train": "images"}, {"num_classes": "4"})
        assert not is_foreign(paths)


def test_killed_at_any_moment_it_can_be_called_again(data: Path, tmp_path: Path) -> None:
    """As while it removes what was downloaded for an earlier call: what is left would not be known as its own."""
    methods = ((Path, "mkdir"), (Path, "rename"), (Path, "write_text"), (os, "unlink"), (os, "rmdir"))
    for moment in itertools.count(1):
        job = tmp_path / f"job {moment}"
        lay(job, {"train": data / "images", "validation": data / "my.manifest"})
        try:
            with killed_at(moment, *methods):
                lay(job, {"train": data / "my.manifest"})
            break
        except Killed:
            pass
        paths = lay(job, {"train": data / "my.manifest"})
        assert sorted(path.name for path in job.iterdir()) == ["input"]
        assert [path.name for path in paths.channel("").iterdir()] == ["train"]
    assert moment > 8


def test_relative_paths_are_those_of_the_caller(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    paths = lay(tmp_path / "job", {"train": Path("images")})
    monkeypatch.chdir(tmp_path)
    assert (paths.channel("train") / "a.jpg").exists()


@pytest.mark.parametrize("name", ["train_label_map.json", "validation_label_map.json"])
def test_a_label_map_of_one_split_stays_that(data: Path, tmp_path: Path, name: str) -> None:
    (data / "my labels.json").rename(data / name)
    paths = lay(tmp_path / "job", {"label_map": data / name})
    assert [path.name for path in paths.channel("label_map").iterdir()] == [name]


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_a_file_of_names_is_no_label_map(data: Path, tmp_path: Path, name: str) -> None:
    (data / "my labels.json").rename(data / name)
    paths = lay(tmp_path / "job", {"label_map": data / name})
    assert [path.name for path in paths.channel("label_map").iterdir()] == [name]


def test_a_folder_of_label_maps_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    paths = lay(tmp_path / "job", {"label_map": data / "images"})
    assert [path.name for path in paths.channel("label_map").iterdir()] == ["a.jpg"]


def test_a_second_call_replaces_the_first_and_leaves_the_data_alone(data: Path, tmp_path: Path) -> None:
    lay(tmp_path / "job", {"train": data / "images", "label_map": data / "my labels.json"})
    model = tmp_path / "job/model/model_best.params"
    model.parent.mkdir()
    model.touch()
    paths = lay(tmp_path / "job", {"train": data / "my.manifest"})
    assert (data / "images/a.jpg").exists()
    assert model.exists()
    assert not paths.channel("label_map").exists()
    assert [path.name for path in paths.channel("train").iterdir()] == ["my.manifest"]


def test_an_input_that_was_not_laid_out_here_is_left_alone(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "job/input/data/train/a.jpg"
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(ChannelError, match="job/input exists, but was not made by semseg"):
        lay(tmp_path / "job", {"train": data / "images"})
    assert other.exists()


def test_a_channel_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"The channel validation: .*/nowhere does not exist"):
        lay(tmp_path / "job", {"train": data / "images", "validation": data / "nowhere"})


def test_a_path_that_is_too_long_is_named_as_such(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"^The channel train: .*a+ cannot be read: File name too long\. Check the"):
        lay(tmp_path / "job", {"train": Path("a" * 300)})
    with pytest.raises(ChannelError, match=r"^The job cannot be laid out in .*a+: File name too long\. Choose another"):
        lay(tmp_path / ("a" * 300), {"train": data / "images"})


def test_nothing_is_removed_before_all_channels_are_found(data: Path, tmp_path: Path) -> None:
    paths = lay(tmp_path / "job", {"train": data / "images"})
    kept = paths.channel("train") / "a.jpg"
    for wrong in (data / "nowhere", paths.channel("") / "train2", Path()):
        channels = {"train": str(wrong) if wrong.parts else "", "validation": str(data / "images")}
        with ObjectStore() as store, pytest.raises(ChannelError, match=r"The channel train: .* does not exist"):
            lay_out(paths, channels, {}, store)
        assert kept.exists()


def test_the_data_of_an_earlier_job_are_not_lost(data: Path, tmp_path: Path) -> None:
    """What was downloaded for it would be removed before it is used."""
    paths = lay(tmp_path / "job", {"train": data / "my.manifest"})
    with pytest.raises(ChannelError, match=r"The channel train: .* is inside .*job/input, which is recreated"):
        lay(tmp_path / "job", {"train": paths.channel("train")})
    assert (paths.channel("train") / "my.manifest").exists()


def test_a_job_that_is_a_file_is_named(data: Path) -> None:
    with pytest.raises(ChannelError, match=r"The job cannot be laid out in .*/my\.manifest: Not a directory"):
        lay(data / "my.manifest", {"train": data / "images"})


def test_objects_of_s3_are_downloaded(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store's own `download`, which test_s3 shows: here, where to."""
    asked: list[tuple[str, Path]] = []
    monkeypatch.setattr(ObjectStore, "download", lambda _, uri, directory: asked.append((uri, directory)))
    with ObjectStore() as store:
        lay_out(Paths(tmp_path / "job"), {"train": "s3://bucket/train"}, {}, store)
    assert asked == [("s3://bucket/train", tmp_path / "job/input/data/train")]
    assert asked[0][1].is_dir()


def test_files_keep_the_names_that_were_given_though_they_are_links(data: Path, tmp_path: Path) -> None:
    """As data stores such as DVC and git-annex have them."""
    store = tmp_path / "store"
    store.mkdir()
    channels = {"train": data / "train.manifest", "label_map": data / "validation_label_map.json"}
    for number, path in enumerate(channels.values()):
        (store / str(number)).write_text("{}")
        path.symlink_to(store / str(number))
    paths = lay(tmp_path / "job", channels)
    assert [path.name for path in paths.channel("train").iterdir()] == ["train.manifest"]
    assert [path.name for path in paths.channel("label_map").iterdir()] == ["validation_label_map.json"]


def test_a_hidden_file_that_is_given_is_not_hidden(data: Path, tmp_path: Path) -> None:
    for name in (".t.manifest", ".map.json"):
        (data / name).write_text("{}")
    paths = lay(tmp_path / "job", {"train": data / ".t.manifest", "label_map": data / ".map.json"})
    assert [path.name for path in paths.channel("train").iterdir()] == ["t.manifest"]
    assert [path.name for path in paths.channel("label_map").iterdir()] == ["label_map.json"]


def test_checkpoints_may_not_lie_in_what_is_made_anew(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "job/input/kept"
    with ObjectStore() as store, pytest.raises(ChannelError, match=r"The checkpoints, .*/kept, would be inside"):
        lay_out(Paths(tmp_path / "job"), {"train": str(data / "images")}, {}, store, checkpoints=place)
