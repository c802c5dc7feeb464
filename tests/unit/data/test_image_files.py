from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from semseg.data.image_files import CONVERTED, IMAGES, MASKS, files_below, images_among, is_named, without_originals


@pytest.mark.parametrize(
    ("name", "image", "mask"),
    [
        ("a.jpg", True, False),
        ("a.PNG", True, True),
        ("day/a.b.jpeg", True, False),
        ("a.tif", False, False),
        ("._a.png", False, False),
        (".png", False, False),
        ("png", False, False),
    ],
)
def test_the_suffix_decides_and_hidden_files_never_count(name: str, image: bool, mask: bool) -> None:
    assert (is_named(Path(name), IMAGES), is_named(Path(name), MASKS)) == (image, mask)
    assert is_named(Path("a.TIF"), CONVERTED)


def test_a_copy_is_preferred_to_its_original(caplog: pytest.LogCaptureFixture) -> None:
    names = ["a.tif", "a.png", "b.tif", "day/a.bmp", "day/b.BMP", "day/b.JPG"]
    left = without_originals(map(PurePosixPath, names))
    assert [str(path) for path in left] == ["a.png", "b.tif", "day/a.bmp", "day/b.JPG"]
    assert caplog.messages == ["Left out, as there are JPEG or PNG files of the same names: a.tif, day/b.BMP"]


def test_files_are_found_in_all_folders_below_and_links_that_lead_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that is named as an image is one, which cannot be read; others may be folders of images."""
    for name in ("b.jpg", "a.txt", "day/c.jpg", "day/far/d.jpg", ".hidden/e.jpg", "day/.f.jpg", "out/g.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "day/back").symlink_to(tmp_path)
    (tmp_path / "night").symlink_to(tmp_path / "day/far")
    for name in ("gone.jpg", "gone", "day/notes.txt", ".gone"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = list(files_below(tmp_path, left_out=lambda folder: folder.name == "out"))
    expected = ["a.txt", "b.jpg", "gone", "gone.jpg", "round.jpg", "day/c.jpg", "day/notes.txt", "day/far/d.jpg"]
    assert [str(path.relative_to(tmp_path)) for path in found] == expected
    assert [path.name for path in images_among(found, IMAGES)] == ["b.jpg", "gone.jpg", "round.jpg", "c.jpg", "d.jpg"]
    lost = f"{tmp_path}/gone, {tmp_path}/day/notes.txt"
    assert caplog.messages == [f"Left out, as they are links to what does not exist: {lost}"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(files_below(tmp_path / "absent"))
