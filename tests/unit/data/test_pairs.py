from __future__ import annotations

import os
from pathlib import Path

import pytest

from semseg.data.files import LoadedFile, LocalFile
from semseg.data.ground_truth import ColorMap
from semseg.data.pairs import Listing, Pair, evenly, list_pairs
from semseg.errors import ChannelError, DataError


@pytest.fixture
def channels(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "train", tmp_path / "train_annotation"
    images.mkdir()
    masks.mkdir()
    return images, masks


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
    strays += [images / ".a.jpg", images / "notes.txt", masks / "b.jpg", masks / "._a.png", images / "gone.jpg"]
    for stray in strays[3:7]:
        stray.touch()
    strays[7].symlink_to(images / "nowhere")
    found = listing(channels, ["a.jpg"], ["a.png", "label_map.json", "classes.json", "classes.txt"])
    assert names(found) == [("train/a.jpg", "train_annotation/a.png")]
    assert not found.problems
    assert sorted(caplog.messages) == sorted(f"{stray} is not a readable image file" for stray in strays)


def test_many_strays_do_not_flood_the_log(channels: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    listing(channels, ["a.jpg", *(f"{number}.xml" for number in range(30))], ["a.png"])
    assert len(caplog.messages) == 21
    assert caplog.messages[-1].startswith("10 more entries of")


TIFF, GIF, JPEG, PNG = b"II*\0\x08\0\0\0", b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"


def test_images_in_other_formats_or_under_other_names_are_named(
    channels: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """By their bytes, whatever the suffix; for all others the words are those of the built-in algorithm."""
    images, masks = channels
    named = {
        images / "b.tif": (TIFF, "a TIFF file"),
        images / "c": (GIF, "a GIF file"),
        images / "d.jfif": (JPEG, "a JPEG file"),
        masks / "e.jpg": (JPEG, "a JPEG file"),
        masks / "f.png.1": (PNG, "a PNG file"),
    }
    for path, (content, _) in named.items():
        path.write_bytes(content)
    others = [images / ".g.tif", images / "h.tif", images / "i.tif", images / "j.tif", masks / "k.npy"]
    others[0].write_bytes(TIFF)
    others[1].write_bytes(b"no TIFF file at all")
    os.mkfifo(others[2])  # to open it would block
    others[3].symlink_to(images / "nowhere")
    others[4].write_bytes(b"\x93NUMPY\1\0")
    found = listing(channels, ["a.jpg"], ["a.png"])
    assert names(found) == [("train/a.jpg", "train_annotation/a.png")]
    assert not found.problems
    read = {images: ".jpg or .jpeg or .png", masks: ".png"}
    expected = [f"{path} is {kind}: only {read[path.parent]} is read" for path, (_, kind) in named.items()]
    expected += [f"{path} is not a readable image file" for path in others]
    assert sorted(caplog.messages) == sorted(expected)


def test_a_partner_in_another_format_is_named_with_the_file_that_lacks_it(channels: tuple[Path, Path]) -> None:
    images, masks = channels
    (images / "c.tif").write_bytes(TIFF)
    (masks / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (masks / "d.json").write_text('{"shapes": []}')
    (masks / "f.bin").touch()
    found = listing(channels, ["a.jpg", "b.jpg", "d.jpg", "e.jpg", "f.jpg"], ["a.png", "c.png"])
    assert [problem.hint.split()[0] for problem in found.problems] == ["Save", "Save", "Image", "Save", "Convert"]
    assert messages(found) == [
        "train/b.jpg has no annotation in train_annotation: b.jpg is a JPEG file.",
        "train/d.jpg has no annotation in train_annotation: d.json is JSON text.",
        "train/e.jpg has no annotation in train_annotation.",
        "train/f.jpg has no annotation in train_annotation: f.bin is in a format that cannot be read.",
        "train_annotation/c.png has no image in train: c.tif is a TIFF file.",
    ]


def test_masks_saved_as_jpeg_are_to_be_saved_as_png(channels: tuple[Path, Path]) -> None:
    (channels[1] / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (problem,) = listing(channels, ["a.jpg"], []).problems
    assert problem.hint == "train_annotation/a.jpg is a JPEG file. Save annotations as PNG masks of one 8-bit channel."


def test_a_channel_of_another_format_says_which(channels: tuple[Path, Path]) -> None:
    for number in range(30):
        (channels[0] / f"{number:02}.tif").write_bytes(TIFF)
    (problem,) = listing(channels, [], ["a.png"]).problems
    assert problem.message == "Channel train has no .jpg or .jpeg or .png file: none among 30 entries."
    assert problem.hint == "train/00.tif is a TIFF file. Convert it to PNG, or to JPEG if it is a photo."


@pytest.mark.req("R23")
def test_lone_files_are_problems(channels: tuple[Path, Path]) -> None:
    found = listing(channels, ["a.jpg", "b.jpg"], ["b.png", "c.png"])
    assert names(found) == [("train/b.jpg", "train_annotation/b.png")]
    assert messages(found) == [
        "train/a.jpg has no annotation in train_annotation.",
        "train_annotation/c.png has no image in train.",
    ]


def test_stems_that_differ_in_case_are_different(channels: tuple[Path, Path]) -> None:
    assert len(messages(listing(channels, ["a.jpg"], ["A.png"]))) == 2


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


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["001.jpg", "002.jpg", "012.jpg"], ["001_mask.png", "002_mask.png", "012_mask.png"]),
        (["a.jpg", "b.jpg"], ["a.jpg.png", "b.jpg.png"]),
        (["a_leftImg8bit.png", "b_leftImg8bit.png"], ["a_gtFine_labelIds.png", "b_gtFine_labelIds.png"]),
        (["img_1.jpg", "img_2.jpg"], ["mask_1.png", "mask_2.png"]),
    ],
)
def test_another_naming_convention_is_recognised(
    channels: tuple[Path, Path], images: list[str], masks: list[str]
) -> None:
    hints = {problem.hint for problem in listing(channels, images, masks).problems}
    example = f"train/{images[0]} seems to belong to train_annotation/{masks[0]}: give both the same stem."
    assert hints == {example}


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


def test_names_with_nothing_in_common_get_the_rule(channels: tuple[Path, Path]) -> None:
    assert "same name" in listing(channels, ["a.jpg", "b.jpg"], ["x.png", "y.png"]).problems[0].hint


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


NFC, NFD = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


@pytest.mark.parametrize(("image", "mask"), [(NFD, NFC), (NFC, NFD)], ids=["image NFD", "mask NFD"])
def test_names_of_other_normal_forms_are_the_same(channels: tuple[Path, Path], image: str, mask: str) -> None:
    """As where images were copied from macOS and masks made on Linux."""
    found = listing(channels, [f"{image}.jpg", "A.jpg"], [f"{mask}.png", "A.png"])
    assert names(found) == [
        ("train/A.jpg", "train_annotation/A.png"),
        (f"train/{image}.jpg", f"train_annotation/{mask}.png"),
    ]
    assert not found.problems


def test_two_files_of_one_normal_form_stay_two(channels: tuple[Path, Path]) -> None:
    found = listing(channels, [f"{NFC}.jpg", f"{NFD}.jpg"], [f"{NFD}.png", f"{NFC}.png"])
    assert sorted(names(found)) == sorted((f"train/{stem}.jpg", f"train_annotation/{stem}.png") for stem in (NFC, NFD))
    assert not found.problems


def test_a_file_without_partner_that_looks_like_another_is_recognised(channels: tuple[Path, Path]) -> None:
    found = listing(channels, [f"{NFC}.jpg", f"{NFD}.jpg"], [f"{NFC}.png"])
    assert names(found) == [(f"train/{NFC}.jpg", f"train_annotation/{NFC}.png")]
    assert messages(found) == [f"train/{NFD}.jpg has no annotation in train_annotation."]
    assert r"'Gro\u0308\xdfe.jpg', looks like that of another file" in found.problems[0].hint


def test_forms_that_partners_do_not_distinguish_are_not_guessed(channels: tuple[Path, Path]) -> None:
    """Three spellings: both accents composed, or the first or none of them."""
    spellings = ["\u00f6\u00e4", "\u00f6a\u0308", "o\u0308a\u0308"]
    found = listing(channels, [f"{spellings[0]}.jpg", f"{spellings[1]}.jpg"], [f"{spellings[2]}.png"])
    assert not found.pairs
    assert len(found.problems) == 3
