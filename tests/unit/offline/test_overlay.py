from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.cli import main
from semseg.codecs.palettes import NAMES, palette
from semseg.errors import DataError
from semseg.offline.overlay import write_overlay


@pytest.mark.parametrize(("image_name", "mask_name"), [("i.jpg", "m.png"), ("i.webp", "m.bmp"), ("i.tif", "m.tif")])
def test_writes_a_png_of_the_images_size(image_name: str, mask_name: str, tmp_path: Path) -> None:
    image, mask, out = tmp_path / image_name, tmp_path / mask_name, tmp_path / "o.png"
    Image.new("RGB", (7, 5), (9, 9, 9)).save(image)
    Image.new("L", (7, 5), 2).save(mask)
    write_overlay(image, mask, out)
    with Image.open(out) as written:
        assert written.size == (7, 5)
    Image.new("L", (6, 5), 2).save(mask)
    with pytest.raises(DataError, match=rf"/{mask_name} has 6 x 5 pixels, .*/{image_name} 7 x 5\."):
        write_overlay(image, mask, out)


def test_a_mask_of_one_bit_has_the_classes_0_and_1(tmp_path: Path) -> None:
    image, out = tmp_path / "i.png", tmp_path / "o.png"
    Image.new("RGB", (2, 1), (100, 100, 100)).save(image)
    for name, mask in (("1.png", Image.new("1", (2, 1), 1)), ("8.png", Image.new("L", (2, 1), 1))):
        mask.save(tmp_path / name)
        write_overlay(image, tmp_path / name, out)
        with Image.open(out) as written:
            assert np.asarray(written)[0].tolist() == [[114, 50, 50]] * 2


def test_the_palette_is_the_one_that_is_named(tmp_path: Path) -> None:
    image, mask, out = tmp_path / "i.png", tmp_path / "m.png", tmp_path / "o.png"
    Image.new("RGB", (2, 1), (100, 100, 100)).save(image)
    Image.new("L", (2, 1), 3).save(mask)
    for name in NAMES:
        assert main(["overlay", str(image), str(mask), str(out), "--palette", name]) == 0
        with Image.open(out) as written:
            assert np.asarray(written)[0, 0].tolist() == (50 + palette(name)[3] // 2).tolist()


def test_a_mask_of_colours_leads_to_a_label_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    Image.new("RGB", (2, 1), (1, 2, 3)).save(image)
    Image.new("RGB", (2, 1), (1, 2, 3)).save(mask)
    assert main(["overlay", str(image), str(mask), str(tmp_path / "o.png")]) == 1
    assert "A label map of colours says it: --label-map FILE of train, evaluate, quantize and browse;" in (
        capsys.readouterr().err
    )


def test_neither_the_image_nor_the_mask_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    Image.new("RGB", (2, 1), (1, 2, 3)).save(image)
    Image.new("L", (2, 1), 3).save(mask)
    for out in (image, mask):
        before = out.read_bytes()
        assert main(["overlay", str(image), str(mask), str(out)]) == 1
        assert capsys.readouterr().err == (
            f"semseg: {out} is read, and would be overwritten. Name another file for the overlay.\n"
        )
        assert out.read_bytes() == before


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    Image.new("RGB", (2, 1), (1, 2, 3)).save(image)
    Image.new("L", (2, 1), 3).save(mask)
    (tmp_path / "folder").mkdir()
    for name, reason in (("none/o.png", "No such file or directory"), ("folder", "Is a directory")):
        assert main(["overlay", str(image), str(mask), str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert said == f"semseg: The overlay cannot be written: {tmp_path / name}: {reason}. Name another file.\n"


@pytest.mark.parametrize("name", ["i.jpg", "m.png"])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path, name: str) -> None:
    image, mask = tmp_path / "i.jpg", tmp_path / "m.png"
    Image.new("RGB", (40, 40), (9, 9, 9)).save(image)
    Image.new("L", (40, 40), 2).save(mask)
    damaged = tmp_path / name
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=f"/{name}: The image cannot be"):
        write_overlay(image, mask, tmp_path / "o.png")
