"""What is said of the files of a folder that are neither images nor masks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from semseg.data.image_files import IMAGES, MASKS
from semseg.data.strays import kind_of_file, nothing_found, warn_of

TIFF, GIF, JPEG, PNG = b"II*\0\x08\0\0\0", b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"


def test_images_in_other_formats_or_under_other_names_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By their bytes, whatever the suffix; for all others the words are those of the built-in algorithm."""
    named = {"b.tif": (TIFF, "a TIFF file"), "c": (GIF, "a GIF file"), "d.jfif": (JPEG, "a JPEG file")}
    named |= {"f.png.1": (PNG, "a PNG file")}
    for name, (content, _) in named.items():
        (tmp_path / name).write_bytes(content)
    others = [tmp_path / name for name in (".g.tif", "h.tif", "i.tif", "j.tif", "k.npy", "absent", "folder.tif")]
    others[0].write_bytes(TIFF)
    others[1].write_bytes(b"no TIFF file at all")
    os.mkfifo(others[2])  # to open it would block
    others[3].symlink_to(tmp_path / "nowhere")
    others[4].write_bytes(b"\x93NUMPY\1\0")
    others[6].mkdir()
    for suffixes, read in ((IMAGES, ".jpg or .jpeg or .png"), (MASKS, ".png")):
        caplog.clear()
        warn_of([*(tmp_path / name for name in named), *others, tmp_path / "label_map.json"], suffixes)
        expected = [f"{tmp_path / name} is {kind}: only {read} is read" for name, (_, kind) in named.items()]
        expected += [f"{path} is not a readable image file" for path in others]
        expected[-4] = f"{others[3]} is a link to what does not exist"
        assert caplog.messages == expected
    assert [kind_of_file(path) for path in others if path.name != "h.tif" and path.suffix != ".npy"] == [None] * 5


def test_many_strays_do_not_flood_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn_of([tmp_path / f"{number}.xml" for number in range(30)], IMAGES)
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == f"10 more entries of {tmp_path} are ignored"


def test_masks_saved_as_jpeg_are_to_be_saved_as_png(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    problem = nothing_found("The folder", tmp_path, MASKS, [tmp_path / "a.jpg"])
    assert problem.message == "The folder has no .png file: none among 1 entries."
    assert problem.hint == f"{tmp_path.name}/a.jpg is a JPEG file. Save annotations as PNG masks of one 8-bit channel."


def test_a_channel_of_another_format_says_which(tmp_path: Path) -> None:
    strays = [tmp_path / f"{number:02}.tif" for number in range(30)]
    for path in strays:
        path.write_bytes(TIFF)
    problem = nothing_found("Channel train", tmp_path, IMAGES, strays)
    assert problem.message == "Channel train has no .jpg or .jpeg or .png file: none among 30 entries."
    assert problem.hint == f"{tmp_path.name}/00.tif is a TIFF file. Convert it to PNG, or to JPEG if it is a photo."


def test_an_empty_folder_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    assert nothing_found("It", tmp_path, MASKS, []).message == "It has no .png file: it is empty."
    absent = nothing_found("It", tmp_path / "absent", MASKS, [])
    assert absent.message == "It has no .png file: there is no such folder."
    assert absent.hint == f"Check the folder or S3 URI that was given: {tmp_path}/absent."
