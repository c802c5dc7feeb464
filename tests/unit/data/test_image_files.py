from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from semseg.data.image_files import CONVERTED, IMAGES, MASKS, files_below, is_named, without_originals


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


def test_files_are_found_in_all_folders_below(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.txt", "day/c.jpg", "day/far/d.jpg", ".hidden/e.jpg", "day/.f.jpg", "out/g.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "day/back").symlink_to(tmp_path)
    (tmp_path / "night").symlink_to(tmp_path / "day/far")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = files_below(tmp_path, left_out=lambda folder: folder.name == "out")
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.txt", "b.jpg", "day/c.jpg", "day/far/d.jpg"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(files_below(tmp_path / "absent"))
