from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.label_map import parse_label_map
from semseg.data.label_map_files import find_label_map
from semseg.data.pairs import list_pairs
from semseg.data.shapes import CLASSES, COLORS, write_names, write_shapes
from semseg.types import Classes


@pytest.mark.req("R15", "R20", "R22", "R23", "R27")
def test_the_data_set_passes_the_check_and_holds_every_class(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=9, validation=3, size=(64, 48), seed=0)
    label_map = parse_label_map({"scale": 1}, len(CLASSES), "map.json")
    listings = [list_pairs(name, tmp_path / name, tmp_path / f"{name}_annotation") for name in ("train", "validation")]
    assert [len(listing.pairs) for listing in listings] == [9, 3]
    report = check([(listing, label_map) for listing in listings], workers=0)
    assert not report.problems
    assert (report.splits[0].class_pixels > 100).all()
    pair = listings[0].pairs[0]
    with Image.open(BytesIO(pair.image.read())) as image, Image.open(BytesIO(pair.mask.read())) as mask:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 48))
        assert (mask.format, mask.mode, mask.size) == ("PNG", "P", (64, 48))


def test_the_seed_decides_alone(tmp_path: Path) -> None:
    contents = []
    for number, seed in enumerate((5, 5, 6)):
        write_shapes(tmp_path / str(number), train=2, validation=1, size=(40, 30), seed=seed)
        contents.append([path.read_bytes() for path in sorted((tmp_path / str(number)).rglob("*.*"))])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize("size", [(16, 16), (31, 97), (200, 40)])
def test_shapes_lie_inside_images_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    write_shapes(tmp_path, train=8, validation=0, size=size, seed=1)
    for path in (tmp_path / "train_annotation").iterdir():
        with Image.open(path) as image:
            labels = np.asarray(image)
        assert labels.shape == size[::-1]
        assert 1 < len(np.unique(labels)) <= 4
        assert (labels == 0).mean() > 0.2


def test_its_classes_have_names_and_the_colours_of_the_masks(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=1, validation=1, size=(64, 48), seed=0)
    write_names(tmp_path)
    for channel in ("train", "validation"):
        masks = tmp_path / f"{channel}_annotation"
        assert find_label_map(channel, masks, None, len(CLASSES)).classes == Classes(CLASSES, COLORS)
        assert not list_pairs(channel, tmp_path / channel, masks).problems
        with Image.open(masks / "0000.png") as mask:
            palette = mask.getpalette("RGB") or []
        assert palette[: 3 * len(COLORS)] == list(b"".join(color.to_bytes(3) for color in COLORS))
