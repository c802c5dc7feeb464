from __future__ import annotations

from pathlib import Path

import pytest

from semseg.data.user_paths import with_user_paths
from semseg.errors import DataError
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths


def renamed(paths: Paths, channels: dict[str, str], text: str) -> str:
    with pytest.raises(DataError) as caught, with_user_paths(paths, channels):
        raise DataError(text, text)
    assert caught.value.hint == caught.value.message
    return caught.value.message


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "semseg-scratch")


def test_folders_and_addresses_stand_for_their_channels(paths: Paths) -> None:
    given = {"train": "/my/images/", "train_annotation": "s3://bucket/masks"}
    text = f"{paths.channel('train_annotation')}/a.png and {paths.channel('train')}/a.jpg"
    assert renamed(paths, given, text) == "s3://bucket/masks/a.png and /my/images/a.jpg"


def test_a_file_stands_for_what_it_was_made(paths: Paths, tmp_path: Path) -> None:
    """Though its own place looks like a channel's."""
    file = tmp_path / "label_map/label_map.json"
    file.parent.mkdir()
    file.touch()
    given = {"label_map": str(file)}
    for named in (f"{paths.channel('label_map')}/label_map.json", "label_map/label_map.json", str(file)):
        assert renamed(paths, given, f"'{named}' is wrong.") == f"'{file}' is wrong."


def test_a_file_of_a_linked_folder_is_the_user_s_own(paths: Paths, tmp_path: Path) -> None:
    """Errors name it by its channel."""
    paths.channel("train_annotation").parent.mkdir(parents=True)
    paths.channel("train_annotation").symlink_to(tmp_path)
    text = "train_annotation/a.png: no mask, as others/train_annotation/a.png."
    assert renamed(paths, {"train_annotation": "my/masks"}, text) == (
        "my/masks/a.png: no mask, as others/train_annotation/a.png."
    )


@pytest.mark.parametrize("name", ["my photo.jpg", "a, b.jpg", "a:b.jpg", "it's.jpg", "a. b.jpg", "ü" * 122 + ".jpg"])
def test_a_file_of_an_arranged_channel_may_have_any_name(name: str, paths: Paths) -> None:
    channel = paths.channel("train")
    channel.mkdir(parents=True)
    for other in (name, "a", "a.jpg"):
        (channel / f"day__{other}").symlink_to(f"/photos/day/{other}")
    text = f"train/day__{name}: it is damaged, and (train/day__{name}) too. {channel}/day__{name}, and train/{name}."
    own = f"/photos/day/{name}"
    expected = f"{own}: it is damaged, and ({own}) too. {own}, and train/{name}."
    assert renamed(paths, {"train": "/photos"}, text) == expected


def test_the_log_is_as_it_was_afterwards(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    with with_user_paths(paths, {"train": "/my/images"}):
        LOGGER.warning("%s is empty", paths.channel("train"))
    LOGGER.warning("%s is empty", paths.channel("train"))
    assert caplog.messages == ["/my/images is empty", f"{paths.channel('train')} is empty"]
