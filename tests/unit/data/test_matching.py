"""Images and masks that belong together, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from semseg.data.files import printable
from semseg.data.matching import Matches, match

TIFF = b"II*\0\x08\0\0\0"
NFC, NFD = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


def matched(channels: tuple[Path, Path], images: list[str], masks: list[str], suffix_helps: bool = False) -> Matches:
    image_of, mask_of = (
        {Path(name).stem: directory / name for name in names}
        for directory, names in zip(channels, (images, masks), strict=True)
    )
    for path in (*image_of.values(), *mask_of.values()):
        path.touch()
    return match(channels, image_of, mask_of, suffix_helps)


def names(found: Matches) -> list[tuple[str, str]]:
    return [(printable(image), printable(mask)) for image, mask in found.pairs]


def messages(found: Matches) -> list[str]:
    return [problem.message for problem in found.problems]


@pytest.mark.req("R23")
def test_lone_files_are_problems(channels: tuple[Path, Path]) -> None:
    found = matched(channels, ["a.jpg", "b.jpg"], ["b.png", "c.png"])
    assert names(found) == [("train/b.jpg", "train_annotation/b.png")]
    assert messages(found) == [
        "train/a.jpg has no annotation in train_annotation.",
        "train_annotation/c.png has no image in train.",
    ]


def test_a_partner_with_other_capitals_is_named(channels: tuple[Path, Path]) -> None:
    found = matched(channels, ["a.jpg", "IMG_1.JPG", "c.jpg"], ["a.png", "img_1.png", "d.png"])
    assert messages(found) == [
        "train/IMG_1.JPG has no annotation in train_annotation: img_1.png has other capitals.",
        "train/c.jpg has no annotation in train_annotation.",
        "train_annotation/d.png has no image in train.",
        "train_annotation/img_1.png has no image in train: IMG_1.JPG has other capitals.",
    ]


def test_a_partner_in_another_format_is_named_with_the_file_that_lacks_it(channels: tuple[Path, Path]) -> None:
    images, masks = channels
    (images / "c.tif").write_bytes(TIFF)
    (masks / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (masks / "d.json").write_text('{"shapes": []}')
    (masks / "f.bin").touch()
    found = matched(channels, ["a.jpg", "b.jpg", "d.jpg", "e.jpg", "f.jpg"], ["a.png", "c.png"])
    assert [problem.hint.split()[0] for problem in found.problems] == ["Save", "Save", "Image", "Save", "Convert"]
    assert messages(found) == [
        "train/b.jpg has no annotation in train_annotation: b.jpg is a JPEG file.",
        "train/d.jpg has no annotation in train_annotation: d.json is JSON text.",
        "train/e.jpg has no annotation in train_annotation.",
        "train/f.jpg has no annotation in train_annotation: f.bin is in a format that cannot be read.",
        "train_annotation/c.png has no image in train: c.tif is a TIFF file.",
    ]


def test_stems_that_differ_in_case_are_different(channels: tuple[Path, Path]) -> None:
    assert len(messages(matched(channels, ["a.jpg"], ["A.png"]))) == 2


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
    hints = {problem.hint for problem in matched(channels, images, masks).problems}
    example = f"train/{images[0]} seems to belong to train_annotation/{masks[0]}: give both the same stem."
    assert hints == {example}


def test_names_with_nothing_in_common_get_the_rule(channels: tuple[Path, Path]) -> None:
    assert "same name" in matched(channels, ["a.jpg", "b.jpg"], ["x.png", "y.png"]).problems[0].hint


@pytest.mark.parametrize(("image", "mask"), [(NFD, NFC), (NFC, NFD)], ids=["image NFD", "mask NFD"])
def test_names_of_other_normal_forms_are_the_same(channels: tuple[Path, Path], image: str, mask: str) -> None:
    """As where images were copied from macOS and masks made on Linux."""
    found = matched(channels, [f"{image}.jpg", "A.jpg"], [f"{mask}.png", "A.png"])
    assert names(found) == [
        ("train/A.jpg", "train_annotation/A.png"),
        (f"train/{image}.jpg", f"train_annotation/{mask}.png"),
    ]
    assert not found.problems


def test_two_files_of_one_normal_form_stay_two(channels: tuple[Path, Path]) -> None:
    found = matched(channels, [f"{NFC}.jpg", f"{NFD}.jpg"], [f"{NFD}.png", f"{NFC}.png"])
    assert sorted(names(found)) == sorted((f"train/{stem}.jpg", f"train_annotation/{stem}.png") for stem in (NFC, NFD))
    assert not found.problems


def test_a_file_without_partner_that_looks_like_another_is_recognised(channels: tuple[Path, Path]) -> None:
    found = matched(channels, [f"{NFC}.jpg", f"{NFD}.jpg"], [f"{NFC}.png"])
    assert names(found) == [(f"train/{NFC}.jpg", f"train_annotation/{NFC}.png")]
    assert messages(found) == [f"train/{NFD}.jpg has no annotation in train_annotation."]
    assert r"'Gro\u0308\xdfe.jpg', looks like that of another file" in found.problems[0].hint


def test_forms_that_partners_do_not_distinguish_are_not_guessed(channels: tuple[Path, Path]) -> None:
    """Three spellings: both accents composed, or the first or none of them."""
    spellings = ["\u00f6\u00e4", "\u00f6a\u0308", "o\u0308a\u0308"]
    found = matched(channels, [f"{spellings[0]}.jpg", f"{spellings[1]}.jpg"], [f"{spellings[2]}.png"])
    assert not found.pairs
    assert len(found.problems) == 3


def test_a_suffix_is_suggested_where_it_helps(channels: tuple[Path, Path]) -> None:
    found = matched(channels, ["a.jpg", "b.jpg"], ["a_L.png", "b_L.png"], suffix_helps=True)
    assert {problem.hint for problem in found.problems} == {
        "train/a.jpg seems to belong to train_annotation/a_L.png: give both the same stem, or --suffix _L."
    }
    found = matched(channels, ["img_1.jpg", "img_2.jpg"], ["mask_1.png", "mask_2.png"], suffix_helps=True)
    assert "--suffix" not in found.problems[0].hint


def test_a_file_is_not_its_own_partner_in_another_format(channels: tuple[Path, Path]) -> None:
    """Where images and masks are in one folder."""
    found = matched((channels[0], channels[0]), ["a.png"], ["b.png"])
    assert messages(found) == ["train/a.png has no annotation in train.", "train/b.png has no image in train."]
