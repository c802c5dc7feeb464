from __future__ import annotations

import os
from pathlib import Path

import pytest

from semseg.data.user_folders import UserFolder, find_images, find_pair
from semseg.errors import ChannelError

NAMES = ("train", "train_annotation")


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: UserFolder) -> dict[str, str]:
    return {stem: str(path.relative_to(folder.path)) for stem, path in folder.files.items()}


def test_files_of_all_formats_count_and_the_others_are_named(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "b.JPG", "a.tif", "c.webp", "notes.txt", ".d.jpg", "deep/e.jpg", "a.svg")
    masks = touch(tmp_path / "masks", "a.png", "b.tiff", "c.webp")
    image_of, mask_of = find_pair(NAMES, images, masks)
    assert found(image_of) == {"a": "a.tif", "b": "b.JPG", "c": "c.webp"}
    assert [path.name for path in image_of.others] == ["a.svg", "deep", "notes.txt"]
    assert found(mask_of) == {"a": "a.png", "b": "b.tiff"}
    assert [path.name for path in mask_of.others] == ["c.webp"]
    assert (image_of.is_channel, mask_of.is_channel) == (False, False)


def test_a_folder_without_files_of_its_own_is_searched_below(tmp_path: Path) -> None:
    images = touch(tmp_path, "day/1.jpg", "night/far/1.tif", ".hidden/2.jpg", "night/.3.jpg", "classes.txt")
    os.mkfifo(images / "day/pipe.jpg")
    folder = find_images("train", images)
    assert found(folder) == {"day__1": "day/1.jpg", "night__far__1": "night/far/1.tif"}
    assert (folder.is_channel, [path.name for path in folder.others]) == (False, ["classes.txt"])
    assert found(find_images("train", touch(images, "4.jpg"))) == {"4": "4.jpg"}


def test_a_png_is_preferred_to_the_tiff_it_was_made_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place, names in ((tmp_path / "flat", ("a.tif", "a.png")), (tmp_path / "deep", ("day/a.png", "day/a.tif"))):
        folder = find_images("train", touch(place, *names))
        assert [path.name for path in folder.files.values()] == ["a.png"]
        assert (folder.others, folder.is_channel) == ((), False)
    said = "Left out, as there are JPEG or PNG files of the same names: "
    assert caplog.messages == [f"{said}{tmp_path}/flat/a.tif", f"{said}{tmp_path}/deep/day/a.tif"]


@pytest.mark.parametrize("place", ["", "day"])
def test_a_link_that_leads_nowhere_is_not_left_out_unnoticed(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = touch(tmp_path / "images") / place
    touch(folder, "a.jpg")
    for name in ("b.jpg", "c.tif", "night"):
        (folder / name).symlink_to(tmp_path / "nowhere")
    images = find_images("train", tmp_path / "images")
    assert [path.name for path in images.files.values()] == ["a.jpg", "b.jpg", "c.tif"]
    if place:
        assert caplog.messages == [f"Left out, as they are links to what does not exist: {folder}/night"]
    else:
        assert [path.name for path in images.others] == ["night"]


def test_images_in_formats_that_are_not_read_are_named_in_nested_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a flat folder, `others` has them."""
    folder = touch(tmp_path / "images", "day/a.jpg", "day/a.txt", "night/b.heic", ".hidden/c.heic", "night/._d.heic")
    assert found(find_images("train", folder)) == {"day__a": "day/a.jpg"}
    assert caplog.messages == [
        f"Left out, as their formats are not read: {folder}/night/b.heic. Convert them to PNG or JPEG."
    ]


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.tif", "a.bmp"), ("a.TIF", "a.tif")])
def test_two_files_of_one_name_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"/a\.\w+ and .*/a\.\w+ have the same name\. Rename one of them\.$"):
        find_images("train", touch(tmp_path, *names))


@pytest.mark.parametrize("suffix", ["_L", "_L.png", "_L.tif"])
def test_a_suffix_pairs_files_of_one_folder(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However the folder is written."""
    touch(tmp_path, "a.png", "a_L.png", "b.jpg", "b_L.tif", "_L.png", "x/c.png")
    image_of, mask_of = find_pair(NAMES, tmp_path, tmp_path / "x/..", suffix)
    assert found(image_of) == {"_L": "_L.png", "a": "a.png", "b": "b.jpg"}
    assert {stem: path.name for stem, path in mask_of.files.items()} == {"a": "a_L.png", "b": "b_L.tif"}
    assert not caplog.messages


def test_a_suffix_without_a_mask_is_an_error_unless_there_is_no_mask_at_all(tmp_path: Path) -> None:
    images, masks = touch(tmp_path / "images", "a.jpg"), touch(tmp_path / "masks")
    assert not find_pair(NAMES, images, masks, "_L")[1].files
    assert not find_pair(NAMES, tmp_path / "absent", touch(masks, "a_L.png"), "_L")[0].files
    with pytest.raises(
        ChannelError, match=rf"^No mask in {masks} has a name that ends with '_l': a_L\.png\. Give --su"
    ):
        find_pair(NAMES, images, masks, "_l")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("x" * 300)
    with pytest.raises(ChannelError, match=r"^The channel train: .*/a\.png cannot be read: File name too long"):
        find_images("train", tmp_path)
