from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.image_scale import image_scale
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import list_pairs
from semseg.data.report import SplitReport


def split(tmp_path: Path, sizes: list[tuple[int, int]], name: str = "train") -> SplitReport:
    """The report on a split of images of these sizes (width, height)."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("L", size).save(tmp_path / folder / f"{number}.png")
    listing = list_pairs(name, tmp_path / "images", tmp_path / "masks")
    return check([(listing, parse_label_map({"scale": 1}, 2, "map"))], workers=0).splits[0]


def test_it_names_both_sizes_and_advises_where_they_differ(tmp_path: Path) -> None:
    train = split(tmp_path, [(480, 360)])
    assert image_scale([train], 200, at_base_size=False) == (
        "Training resizes images to a long side of 100 to 400 pixels (base_size 200 x 0.5 to 2), 21 to 83 % of their "
        "own of 480 pixels; they are served at their own size, at which the network has not seen any. Results may be "
        "better with _serving_scale=base, or a base_size near 480."
    )
    assert image_scale([train], 200, at_base_size=True).endswith("; they are served with a long side of 200.")
    assert image_scale([train], 520, at_base_size=False).endswith(
        "54 to 217 % of their own of 480 pixels; they are served at their own size."
    )
    assert "has not seen any" in image_scale([train], 1000, at_base_size=False)


@pytest.mark.parametrize(
    ("sizes", "own"),
    [([(30, 20), (20, 40), (50, 10)], 40), ([(30, 20), (20, 40)], 30), ([(20, 40), (20, 40), (9, 90), (9, 90)], 40)],
)
def test_of_many_sizes_it_names_the_median_long_side(tmp_path: Path, sizes: list[tuple[int, int]], own: int) -> None:
    assert f"of their own of {own} pixels" in image_scale([split(tmp_path, sizes)], 40, at_base_size=False)


def test_without_images_of_train_it_says_nothing(tmp_path: Path) -> None:
    assert image_scale([], 200, at_base_size=False) == ""
    assert image_scale([split(tmp_path, [(4, 4)], "validation")], 200, at_base_size=False) == ""
