from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.decoding import read_values
from semseg.data.ground_truth import ColorMap, ColorMaps
from semseg.data.label_map import parse_label_map
from semseg.data.manifest import list_manifest
from semseg.data.s3 import ObjectStore
from semseg.errors import ImageError
from semseg.types import Classes, UInt8

WHITE, GREEN, BLUE = 0xFFFFFF, 0x2CA02C, 0x1F77B4
CLASSES = ((0, "BACKGROUND", WHITE), (1, "scratch", GREEN), (2, "dent", BLUE))
LABELS = np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.uint8)


def color_map(*classes: tuple[int, str, int]) -> dict[str, Any]:
    """`internal-color-map` as Ground Truth writes it."""
    return {
        str(key): {"class-name": name, "hex-color": f"#{color:06x}", "confidence": 0.9} for key, name, color in classes
    }


def entry(mapping: Any, key: str = "x-ref-metadata") -> dict[str, Any]:
    return {key: {"internal-color-map": mapping, "type": "groundtruth/semantic-segmentation", "human-annotated": "yes"}}


def mask(indices: UInt8, colors: Sequence[int] = (WHITE, GREEN, BLUE), mode: str = "P") -> bytes:
    """A mask as Ground Truth makes it: 256 colours, white where there is no class."""
    image = Image.fromarray(indices)
    image.putpalette(b"".join(color.to_bytes(3, "big") for color in colors) + b"\xff" * 3 * (256 - len(colors)))
    file = io.BytesIO()
    image.convert(mode).save(file, "PNG")
    return file.getvalue()


class TestReading:
    def test_right_indices_are_taken_as_they_are(self, caplog: pytest.LogCaptureFixture) -> None:
        np.testing.assert_array_equal(ColorMap(CLASSES).read_values(mask(LABELS), "a.png"), LABELS)
        assert not caplog.messages

    def test_wrong_indices_are_rebuilt_from_the_colours_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        colors = ColorMap(CLASSES)
        wrong = mask(np.array([0, 2, 1], np.uint8)[LABELS], (WHITE, BLUE, GREEN))
        for name in ("line 1: a.png", "line 2: b.png"):
            np.testing.assert_array_equal(colors.read_values(wrong, name), LABELS)
        assert [record[:2] for record in caplog.record_tuples] == [("semseg", logging.WARNING)]
        assert caplog.messages[0].startswith("line 1: a.png: the palette's indices contradict the colours")

    def test_threads_log_once_as_well(self, caplog: pytest.LogCaptureFixture) -> None:
        colors = ColorMap(CLASSES)
        wrong = mask(LABELS, (WHITE, BLUE, GREEN))
        threads = [threading.Thread(target=colors.read_values, args=(wrong, "a.png")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(caplog.messages) == 1

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_masks_without_a_palette_are_read_by_colour(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        values = ColorMap(CLASSES).read_values(mask(LABELS, mode=mode), "a.png")
        np.testing.assert_array_equal(values, LABELS)
        assert not caplog.messages
        with pytest.raises(ImageError, match="colours: which one is which class"):
            ColorMap(CLASSES[:2]).read_values(mask(LABELS, mode=mode), "a.png")

    def test_grey_masks_hold_classes(self) -> None:
        file = io.BytesIO()
        Image.fromarray(LABELS).save(file, "PNG")
        np.testing.assert_array_equal(ColorMap(CLASSES).read_values(file.getvalue(), "a.png"), LABELS)


def test_masks_that_a_manifest_lists_are_corrected_and_the_line_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = mask(np.array([0, 2, 1], np.uint8)[LABELS], (WHITE, BLUE, GREEN))
    for name, content in (("right.png", mask(LABELS)), ("wrong.png", wrong), ("wrong too.png", wrong)):
        (tmp_path / name).write_bytes(content)
    lines = [
        {"source-ref": "a.jpg", "x-ref": name} | entry(color_map(*CLASSES))
        for name in ("right.png", "wrong.png", "wrong too.png")
    ]
    manifest = tmp_path / "output.manifest"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with ObjectStore() as store:
        listing = list_manifest("train", manifest, store)
    assert listing.colors == ColorMap(CLASSES)
    label_map = parse_label_map({"scale": 1}, 3, "map.json")
    for pair in listing.pairs:
        np.testing.assert_array_equal(read_values(pair.loaded(), label_map), LABELS)
    assert len(caplog.messages) == 1
    assert "line 2 of " in caplog.messages[0]


class TestNames:
    def test_names_are_those_of_the_values_where_the_label_map_changes_none(self) -> None:
        colors = ColorMap(((1, "scratch", GREEN), (3, "dent", BLUE), (255, "void", 0)))
        assert colors.classes_under(parse_label_map({"scale": 1}, 4, "map.json")) == Classes(
            (None, "scratch", None, "dent"), (None, GREEN, None, BLUE)
        )

    def test_names_of_values_that_are_no_class_are_left_out(self) -> None:
        assert ColorMap(CLASSES).classes_under(parse_label_map({"scale": 1}, 2, "m")).names == ("BACKGROUND", "scratch")

    def test_maps_of_equal_classes_are_equal(self) -> None:
        assert ColorMap(CLASSES) == ColorMap(CLASSES)
        assert hash(ColorMap(CLASSES)) == hash(ColorMap(CLASSES))


class TestLines:
    @pytest.mark.parametrize("key", ["x-ref-metadata", "x-metadata"])
    def test_the_map_is_found_under_both_keys(self, key: str) -> None:
        maps = ColorMaps()
        assert maps.add(1, entry(color_map(*CLASSES), key), "x-ref")
        assert maps.joined() == ColorMap(CLASSES)

    def test_the_maps_of_all_lines_are_joined(self) -> None:
        maps = ColorMaps()
        assert maps.add(1, entry(color_map(CLASSES[2], CLASSES[0])), "x-ref")
        assert maps.add(2, entry(color_map(CLASSES[1], CLASSES[0])), "x-ref")
        assert maps.joined() == ColorMap(CLASSES)

    @pytest.mark.req("R39")
    @pytest.mark.parametrize(
        "line",
        [
            {},
            {"x-ref-metadata": "text"},
            {"x-ref-metadata": {"job-name": "labeling-job/x"}},
            {"x-ref-metadata": {"internal-color-map": None}},
            {"x-ref-metadata": {"internal-color-map": {}}},
            {"y-ref-metadata": {"internal-color-map": {"a": "b"}}},
        ],
    )
    def test_lines_without_a_map_are_fine(self, line: dict[str, Any]) -> None:
        maps = ColorMaps()
        assert not maps.add(1, line, "x-ref")
        assert maps.joined() is None

    def test_capitals_in_colours_are_no_contradiction(self) -> None:
        maps = ColorMaps()
        maps.add(1, entry({"0": {"class-name": "a", "hex-color": "#FFFFFF"}}), "x-ref")
        maps.add(2, entry({"0": {"class-name": "a", "hex-color": "#ffffff"}}), "x-ref")
        assert maps.joined() == ColorMap(((0, "a", WHITE),))

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ((1, "dent", GREEN), "says class 1 is 'dent' in #2ca02c, but line 3 says 'scratch' in #2ca02c"),
            ((1, "scratch", BLUE), "says class 1 is 'scratch' in #1f77b4, but line 3 says 'scratch' in #2ca02c"),
            ((4, "dent", GREEN), "gives #2ca02c to class 4, but line 3 to class 1"),
        ],
    )
    def test_lines_that_contradict_each_other(self, other: tuple[int, str, int], message: str) -> None:
        maps = ColorMaps()
        maps.add(3, entry(color_map(*CLASSES[:2])), "x-ref")
        with pytest.raises(ValueError, match=message):
            maps.add(7, entry(color_map(other)), "x-ref")

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ([], "is not an object"),
            ("text", "is not an object"),
            ({"256": {"class-name": "a", "hex-color": "#000000"}}, "key '256' of internal-color-map is not a class"),
            ({"a": {}}, "key 'a' of internal-color-map is not a class"),
            ({"0": "a"}, "class 0 of internal-color-map has no class-name"),
            ({"0": {"hex-color": "#000000"}}, "class 0 of internal-color-map has no class-name"),
            ({"0": {"class-name": "", "hex-color": "#000000"}}, "no class-name"),
            ({"0": {"class-name": "x" * 257, "hex-color": "#000000"}}, "no class-name of 1 to 256"),
            ({"0": {"class-name": "a\nb", "hex-color": "#000000"}}, "no class-name .* on one line"),
            ({"0": {"class-name": "a\u2028b", "hex-color": "#000000"}}, "no class-name .* on one line"),
            ({"0": {"class-name": 5, "hex-color": "#000000"}}, "no class-name"),
            ({"0": {"class-name": "a"}}, "class 0 of internal-color-map has no hex-color"),
            ({"0": {"class-name": "a", "hex-color": "white"}}, "hex-color of class 0 of .*: 'white' is not a colour"),
        ],
    )
    def test_malformed_maps(self, mapping: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ColorMaps().add(1, entry(mapping), "x-ref")

    def test_names_in_other_scripts_are_names(self) -> None:
        maps = ColorMaps()
        maps.add(1, entry({"0": {"class-name": "می‌خواهم 背景", "hex-color": "#ffffff"}}), "x-ref")
        joined = maps.joined()
        assert joined is not None
        assert joined.classes[0][1] == "می‌خواهم 背景"
