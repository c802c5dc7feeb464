from __future__ import annotations

from pathlib import Path

import pytest

from semseg.data.files import LoadedFile, LocalFile
from semseg.data.ground_truth import ColorMap
from semseg.data.pairs import Listing, Pair, evenly, list_pairs
from semseg.errors import ChannelError, DataError


def listing(channels: tuple[Path, Path], images: list[str], masks: list[str]) -> Listing:
    for directory, names in zip(channels, (images, masks), strict=True):
        for name in names:
            (directory / name).touch()
    return list_pairs("train", *channels)


def names(found: Listing) -> list[tuple[str, str]]:
    return [(pair.image.name, pair.mask.name) for pair in found.pairs]


def messages(found: Listing) -> list[str]:
    return [problem.message for problem in found.problems]


@pytest.mark.req("R14", "R15", "R20", "R22", "R23")
def test_images_and_masks_of_one_stem_are_pairs_in_order(channels: tuple[Path, Path]) -> None:
    found = listing(channels, ["coffee.jpg", "0000.jpg"], ["0000.png", "coffee.png"])
    assert names(found) == [
        ("train/0000.jpg", "train_annotation/0000.png"),
        ("train/coffee.jpg", "train_annotation/coffee.png"),
    ]
    assert (found.name, found.problems, found.colors) == ("train", (), None)


def test_a_channel_that_cannot_be_read_is_named(channels: tuple[Path, Path]) -> None:
    """Where a link leads to a name that is too long, as where the permission lacks."""
    (channels[1] / "a.png").symlink_to("x" * 300)
    with pytest.raises(ChannelError, match=r"^The channel train_annotation: .*/a\.png cannot be read: File name too"):
        list_pairs("train", *channels)


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(channels: tuple[Path, Path]) -> None:
    (channels[0] / "b.jpg").symlink_to(channels[0] / "nowhere.jpg")
    found = listing(channels, ["a.jpg"], ["a.png", "b.png"])
    assert [image for image, _ in names(found)] == ["train/a.jpg", "train/b.jpg"]
    with pytest.raises(DataError, match=r"^train/b\.jpg is a link to .*/train/nowhere\.jpg, which does not exist\."):
        found.pairs[1].image.read()


def test_every_suffix_in_any_case(channels: tuple[Path, Path]) -> None:
    found = listing(channels, ["a.JPG", "b.jpeg", "c.Png", "d.1.jpg"], ["a.png", "b.PNG", "c.png", "d.1.png"])
    assert names(found) == [
        ("train/a.JPG", "train_annotation/a.png"),
        ("train/b.jpeg", "train_annotation/b.PNG"),
        ("train/c.Png", "train_annotation/c.png"),
        ("train/d.1.jpg", "train_annotation/d.1.png"),
    ]
    assert not found.problems


def test_stray_directories_and_files_are_ignored_with_the_original_warning(
    channels: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    images, masks = channels
    strays = [images / "train_annotation", images / "_annotation", images / "directory.jpg"]
    for stray in strays:
        stray.mkdir()
        (stray / "a.png").touch()
    strays += [images / ".a.jpg", images / "notes.txt", masks / "b.jpg", masks / "._a.png"]
    for stray in strays[3:]:
        stray.touch()
    found = listing(channels, ["a.jpg"], ["a.png", "label_map.json", "classes.json", "classes.txt"])
    assert names(found) == [("train/a.jpg", "train_annotation/a.png")]
    assert not found.problems
    assert sorted(caplog.messages) == sorted(f"{stray} is not a readable image file" for stray in strays)


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["a.JPG", "a.jpg"], ["a.jpeg", "a.jpg"]])
def test_two_images_of_one_stem_are_a_problem(channels: tuple[Path, Path], names: list[str]) -> None:
    assert messages(listing(channels, names, ["a.png"])) == [f"train/{names[1]} has the same stem as train/{names[0]}."]


@pytest.mark.req("R20")
def test_empty_channels_are_problems(channels: tuple[Path, Path]) -> None:
    assert messages(listing(channels, [], ["a.txt"])) == [
        "Channel train has no .jpg or .jpeg or .png file: it is empty.",
        "Channel train_annotation has no .png file: none among 1 entries.",
    ]


def test_a_missing_directory_is_an_empty_channel(tmp_path: Path) -> None:
    assert len(list_pairs("train", tmp_path / "train", tmp_path / "train_annotation").problems) == 2


def test_folders_in_a_channel_are_not_searched(channels: tuple[Path, Path]) -> None:
    for directory, suffix in zip(channels, (".jpg", ".png"), strict=True):
        for folder in ("day", "night", ".hidden"):
            (directory / folder).mkdir()
            (directory / folder / f"1{suffix}").touch()
    assert [problem.message for problem in list_pairs("train", *channels).problems] == [
        "Channel train has no .jpg or .jpeg or .png file: none among 3 entries.",
        "Channel train_annotation has no .png file: none among 3 entries.",
    ]


def test_a_folder_that_is_not_there_is_not_called_empty(channels: tuple[Path, Path]) -> None:
    (channels[0] / "a.jpg").touch()
    (problem,) = list_pairs("images", channels[0], channels[1] / "absent").problems
    assert problem.message == "Channel absent has no .png file: there is no such folder."


def test_control_characters_in_names_stay_out_of_messages(
    channels: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    found = listing(channels, ["a\nERROR.jpg", "b\udcff.jpg", "c\nERROR.txt"], ["b.png"])
    assert len(found.problems) == 3
    assert len(caplog.messages) == 1
    assert all(message.isprintable() for message in messages(found) + caplog.messages)


def test_a_loaded_pair_keeps_its_colours_and_raises_for_a_lost_file_when_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    colors = ColorMap(((0, "BACKGROUND", 0xFFFFFF),))
    pair = Pair(LocalFile(tmp_path / "a.jpg"), LocalFile(tmp_path / "a.png"), colors).loaded()
    (tmp_path / "a.jpg").unlink()
    assert isinstance(pair.image, LoadedFile)
    assert (pair.image.read(), pair.colors) == (b"image", colors)
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        pair.mask.read()


@pytest.mark.parametrize(
    ("items", "count", "expected"),
    [("abcdef", 3, "ace"), ("abcde", 2, "ac"), ("abc", 3, "abc"), ("abc", 9, "abc"), ("", 4, "")],
)
def test_some_of_many_at_equal_distances(items: str, count: int, expected: str) -> None:
    assert evenly(items, count) == list(expected)
