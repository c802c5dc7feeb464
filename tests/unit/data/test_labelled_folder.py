from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data import labelled_folder as module
from semseg.data.labelled_folder import LabelledFolder, list_images, open_labelled
from semseg.errors import ChannelError, DataError
from semseg.types import UInt8

RANDOM = np.random.default_rng(0)
IMAGE: UInt8 = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)
MASK: UInt8 = RANDOM.integers(0, 4, (6, 8), np.uint8)


def write(path: Path, pixels: UInt8) -> None:
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    return tmp_path / "images", tmp_path / "masks"


def opened(folders: tuple[Path, Path], suffix: str = "") -> LabelledFolder:
    return open_labelled(*folders, None, 4, suffix)


def test_files_in_other_formats_are_those_of_their_png(folders: tuple[Path, Path]) -> None:
    for name in ("a.tif", "b.bmp", "c.webp", "d.png"):
        write(folders[0] / name, IMAGE)
    for name in ("a.png", "b.tiff", "c.bmp", "d.tif"):
        write(folders[1] / name, MASK)
    folder = opened(folders)
    assert [pair.image.name for pair in folder.pairs] == [
        f"images/{name}" for name in ("a.tif", "b.bmp", "c.webp", "d.png")
    ]
    for pair in folder.pairs:
        image, labels, _ = folder.sampler.whole(pair)
        assert (image == IMAGE).all()
        assert (labels == MASK).all()


def test_the_label_map_is_the_given_one_or_that_of_the_folder_or_that_of_the_training(
    folders: tuple[Path, Path],
) -> None:
    write(folders[0] / "a.png", IMAGE)
    write(folders[1] / "a.png", MASK * np.uint8(10))
    given = folders[1].parent / "given.json"
    given.write_text('{"map": {"1": 10}}')
    trained: dict[str, dict[str, Any]] = {"train": {"scale": "10"}, "validation": {"scale": 10}}

    def read(given: Path | None, trained: dict[str, dict[str, Any]]) -> tuple[str, list[int]]:
        folder = open_labelled(*folders, given, 4, trained=trained)
        return folder.reading, np.unique(folder.sampler.whole(folder.pairs[0])[1]).tolist()

    assert read(None, trained) == ('the label map of the training, {"scale": "10"}', [0, 1, 2, 3])
    (folders[1] / "label_map.json").write_text('{"map": {"0": 20}}')
    differing = {"train": {"scale": 10}, "validation": {"scale": 1}}
    assert read(None, differing) == ('masks/label_map.json, {"map": {"0": 20}}', [0, 255])
    assert read(given, differing)[1] == [1, 255]
    assert read(given, differing)[0].endswith('/given.json, {"map": {"1": 10}}')


def test_without_any_label_map_values_are_classes(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.png", IMAGE)
    write(folders[1] / "a.png", MASK * np.uint8(10))
    folder = opened(folders)
    assert folder.reading == 'the default label map, {"scale": 1}'
    with pytest.raises(DataError, match=r"not classes under.*num_classes is 4\. Give a label map that says what they"):
        folder.sampler.whole(folder.pairs[0])


def test_splits_with_label_maps_of_their_own_leave_the_choice_to_the_user(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.png", IMAGE)
    write(folders[1] / "a.png", MASK)
    entries = {str(label): label for label in range(200)}
    with pytest.raises(DataError, match=r'own: train by \{"scale": 2\}, validation by .*Give the one') as caught:
        open_labelled(*folders, None, 200, trained={"train": {"scale": 2}, "validation": {"map": entries}})
    assert len(str(caught.value)) < 500


def test_a_palette_in_a_tiff_mask_gives_its_indices(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.tif", IMAGE)
    mask = Image.fromarray(MASK)
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    mask.save(folders[1] / "a.tif")
    folder = opened(folders)
    assert (folder.sampler.whole(folder.pairs[0])[1] == MASK).all()


def test_nested_folders_pair_by_their_paths(folders: tuple[Path, Path]) -> None:
    for name in ("day", "night", ".hidden"):
        write(folders[0] / name / "1.jpg", IMAGE)
        write(folders[1] / name / "1_L.png", MASK)
    folder = opened(folders, "_L")
    assert [pair.mask.name for pair in folder.pairs] == ["masks/day/1_L.png", "masks/night/1_L.png"]
    assert [image.name for image in list_images(folders[0])] == ["images/day/1.jpg", "images/night/1.jpg"]
    with pytest.raises(DataError, match=r"day/1\.jpg has no annotation in masks\.") as refusal:
        opened(folders)
    assert "day/1.jpg seems to belong to day/1_L.png: give both the same stem, or --suffix _L." in str(refusal.value)


def test_folders_that_are_not_searched_are_named(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """A folder with files of its own is searched no deeper."""
    for name in ("1", "day/2", "night/3"):
        write(folders[0] / f"{name}.jpg", IMAGE)
        write(folders[1] / f"{name.rpartition('/')[2]}.png", MASK)
    (folders[0] / "notes.txt").touch()
    assert [file.name for file in list_images(folders[0])] == ["images/1.jpg"]
    assert caplog.messages == [
        f"Not searched, as there are files beside them that are read: {folders[0]}/day, {folders[0]}/night",
        f"{folders[0]}/notes.txt is not a readable image file",
    ]


def test_a_folder_of_masks_within_that_of_the_images_is_no_surprise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "1.jpg", IMAGE)
    write(tmp_path / "masks/1.png", MASK)
    assert len(opened((tmp_path, tmp_path / "masks")).pairs) == 1
    assert not caplog.messages


def test_one_folder_may_have_both(folders: tuple[Path, Path]) -> None:
    folder = folders[0]
    for number in range(2):
        write(folder / f"{number}.png", IMAGE)
        write(folder / f"{number}_L.png", MASK)
    write(folder / "lone.png", IMAGE)
    with pytest.raises(DataError, match=r"images/lone\.png has no annotation in images\.\n Image and annotation must"):
        open_labelled(folder, folder, None, 4, "_L")
    (folder / "lone.png").unlink()
    assert [pair.mask.name for pair in open_labelled(folder, folder, None, 4, "_L").pairs] == [
        "images/0_L.png",
        "images/1_L.png",
    ]


def test_what_is_wrong_names_the_user_s_files(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    write(folders[0] / "a.tif", IMAGE)
    (folders[0] / "notes.txt").touch()
    with pytest.raises(
        DataError, match=rf"\n{folders[1]} has no \.png or \.tif or \.tiff or \.bmp file: it is empty\."
    ):
        opened(folders)
    assert caplog.messages == [f"{folders[0]}/notes.txt is not a readable image file"]
    write(folders[1] / "b.png", MASK)
    with pytest.raises(DataError, match=r"images/a\.tif has no annotation in masks\."):
        opened(folders)
    write(folders[1] / "b.png", MASK)
    (folders[1] / "b.png").rename(folders[1] / "a.png")
    (folders[0] / "a.tif").write_bytes(b"II*\0 no image")
    folder = opened(folders)
    with pytest.raises(DataError, match=r"^images/a\.tif: The image cannot be decoded"):
        folder.sampler.whole(folder.pairs[0])
    with pytest.raises(ChannelError, match=r"No mask in .*masks has a name that ends with '_L': a\.png\."):
        opened(folders, "_L")


@pytest.mark.parametrize("name", ["a.tif", "a.bmp"])
def test_the_content_decides_what_a_file_in_another_format_is(name: str, folders: tuple[Path, Path]) -> None:
    """Another tool may have saved a PNG as .tif; a mask that was saved as JPEG is none, whatever its name."""
    for place, pixels in zip(folders, (IMAGE, MASK), strict=True):
        write(place / "a.png", pixels)
        (place / "a.png").rename(place / name)
    folder = opened(folders)
    image, labels, _ = folder.sampler.whole(folder.pairs[0])
    assert (image == IMAGE).all()
    assert (labels == MASK).all()
    Image.fromarray(MASK).save(folders[1] / name, "JPEG")
    with pytest.raises(DataError, match=rf"^masks/{name}: The mask is a JPEG file, not PNG\."):
        folder.sampler.whole(folder.pairs[0])


def test_images_alone_are_listed_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg"):
        (tmp_path / name).touch()
    assert [file.name.split("/")[1] for file in list_images(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]
    assert caplog.messages == [f"{tmp_path / 'notes.txt'} is not a readable image file"]
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ChannelError, match=r"/a\.png and .*/a\.jpg have the same name\."):
        list_images(tmp_path)
    with pytest.raises(ChannelError, match=r"^The channel images: .*/x+ cannot be read: File name too long"):
        list_images(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match=r"nowhere has no \.jpg or .* or \.bmp file: there is no such folder\."):
        list_images(tmp_path / "nowhere")


def test_no_more_images_are_converted_at_a_time_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads read: a conversion takes memory that no reader counts."""
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def convert(data: bytes) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(60)
        with lock:
            running -= 1
        return data

    monkeypatch.setattr(module, "image_to_png", convert)
    for number in range(6):
        (tmp_path / f"{number}.tif").touch()
    threads = [threading.Thread(target=file.read) for file in list_images(tmp_path)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 2
