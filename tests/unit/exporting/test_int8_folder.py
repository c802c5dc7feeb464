"""`semseg quantize`: which images calibrate, which compare, and what the messages say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from discerning import labelled
from PIL import Image

from semseg.artifact.gate import Gate
from semseg.artifact.model_dir import write_label_maps
from semseg.cli import main
from semseg.errors import ArtifactError
from semseg.exporting import int8_folder as module
from semseg.exporting.int8_folder import quantize_folder


class Asked:
    """Stands in for `quantize`, which takes its time: remembers the images and passes, or not."""

    def __init__(self, int8: float = 0.5) -> None:
        self.int8 = int8
        self.calls = 0
        self.calibration: list[Any] = []
        self.validation: list[Any] = []

    def __call__(self, model: object, path: Path, calibration: Any, validation: Callable[[], Any]) -> Gate:
        self.calls += 1
        self.path, self.calibration, self.validation = path, list(calibration), list(validation())
        return Gate(0.5, self.int8, len(self.validation))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(module, "quantize", asked)
    return asked


def write_images(directory: Path, count: int) -> tuple[Path, Path]:
    """Images of one grey, their number, and masks of class number modulo 3."""
    images, masks = directory / "images", directory / "masks"
    for folder in (images, masks):
        folder.mkdir()
    for number in range(count):
        Image.new("RGB", (5, 4), (number,) * 3).save(images / f"{number:03}.png")
        Image.new("L", (5, 4), number % 3).save(masks / f"{number:03}.png")
    return images, masks


def numbers(images: list[Any]) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


def test_some_images_calibrate_and_others_compare(small_dir: Path, tmp_path: Path, asked: Asked) -> None:
    images, _ = write_images(tmp_path, 140)
    assert quantize_folder(small_dir, images).images == 100
    assert asked.path == small_dir / "model_int8.onnx"
    calibration, validation = (
        numbers(asked.calibration),
        numbers([image for image, _ in asked.validation]),
    )
    assert calibration == [number * 140 // 16 for number in range(16)]
    assert len(validation) == len(set(validation)) == 100
    assert not set(validation) & set(calibration)
    assert (validation[0], validation[-1]) == (1, 138)
    assert all(labels is None for _, labels in asked.validation)


def test_of_few_images_half_calibrate(small_dir: Path, tmp_path: Path, asked: Asked) -> None:
    images, _ = write_images(tmp_path, 3)
    quantize_folder(small_dir, images)
    assert numbers(asked.calibration) == [0]
    assert numbers([image for image, _ in asked.validation]) == [1, 2]


def test_annotations_are_read_under_their_label_map(
    small_dir: Path, tmp_path: Path, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    images, masks = write_images(tmp_path, 6)
    quantize_folder(small_dir, images, masks)
    assert [int(labels[0, 0]) for _, labels in asked.validation] == [1, 0, 2]
    (tmp_path / "given.json").write_text('{"map": {"0": 2, "2": 1}}')
    quantize_folder(small_dir, images, masks, tmp_path / "given.json")
    assert [int(labels[0, 0]) for _, labels in asked.validation] == [2, 255, 0]
    write_label_maps(small_dir, {"train": {"map": {"0": 1, "1": 2, "2": 0}}})
    with caplog.at_level("INFO", logger="semseg"):
        quantize_folder(small_dir, images, masks)
    assert [int(labels[0, 0]) for _, labels in asked.validation] == [0, 2, 1]
    assert caplog.messages[-1].startswith("The annotations are read by the label map of the training, {")
    (masks / "label_map.json").write_text('{"map": {"0": 2, "1": 0, "2": 1}}')
    quantize_folder(small_dir, images, masks)
    assert [int(labels[0, 0]) for _, labels in asked.validation] == [2, 1, 0]


def test_the_masks_names_may_have_a_suffix(small_dir: Path, tmp_path: Path, asked: Asked) -> None:
    images, masks = write_images(tmp_path, 6)
    for mask in masks.iterdir():
        mask.rename(mask.with_stem(f"{mask.stem}_L"))
    assert command(small_dir, "--images", images, "--annotations", masks, "--suffix", "_L") == 0
    assert [int(labels[0, 0]) for _, labels in asked.validation] == [1, 0, 2]


def command(*arguments: object) -> int:
    return main(["quantize", *map(str, arguments)])


@pytest.mark.parametrize(("int8", "code", "word"), [(0.499, 0, "kept"), (0.4, 1, "discarded")])
def test_the_command_prints_both_numbers(
    small_dir: Path,
    tmp_path: Path,
    asked: Asked,
    int8: float,
    code: int,
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked.int8 = int8
    images, masks = write_images(tmp_path, 4)
    assert command(small_dir, "--images", images, "--annotations", masks) == code
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"{word}: mIOU {int8:.4f} in int8, 0.5000 in f32, on 2 images"


def test_errors_say_what_is_wrong_with_the_images(
    small_dir: Path, tmp_path: Path, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = write_images(tmp_path, 3)

    def told(*arguments: object) -> str:
        assert command(*arguments) == 1
        return capsys.readouterr().err

    assert "at least two images" in told(small_dir, "--images", write_one(tmp_path / "one"))
    (tmp_path / "empty").mkdir()
    assert "empty has no .jpg or .jpeg or .png or .tif" in told(small_dir, "--images", tmp_path / "empty")
    Image.new("L", (5, 4), 9).save(masks / "002.png")
    assert re.search("masks/002.png.*9.*not classes", told(small_dir, "--images", images, "--annotations", masks))
    (masks / "001.png").unlink()
    assert "images/001.png has no annotation" in told(small_dir, "--images", images, "--annotations", masks)
    (images / "001.png").write_bytes(b"no image")
    assert "images/001.png" in told(small_dir, "--images", images)
    with pytest.raises(ArtifactError):
        quantize_folder(tmp_path, images)


def test_a_folder_that_cannot_be_written_is_an_error_before_the_work(
    small_dir: Path, tmp_path: Path, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = write_images(tmp_path, 3)
    (small_dir / "model_int8.onnx").mkdir()
    assert command(small_dir, "--images", images) == 1
    said = f"semseg: The model cannot be written: {small_dir}/model_int8.onnx: Is a directory.\n"
    assert capsys.readouterr().err == said
    assert asked.calls == 0


def write_one(directory: Path) -> Path:
    directory.mkdir()
    return write_images(directory, 1)[0]


def test_a_file_comes_of_it(small_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way, with annotations."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, (image, labels) in enumerate(sorted(labelled(2), key=lambda pair: pair[0].mean())):
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.asarray(labels)).save(tmp_path / f"masks/{number}.png")
    assert command(small_dir, "--images", tmp_path / "images", "--annotations", tmp_path / "masks") == 0
    assert "kept: mIOU 0.6667 in int8, 0.6667 in f32, on 2 images" in capsys.readouterr().out
    assert (small_dir / "model_int8.onnx").stat().st_size > 1000
