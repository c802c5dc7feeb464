"""Grey masks of 1, 2 and 4 bits mean the same in whatever way they are read."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.codecs.recordio import frame
from semseg.data.check import check
from semseg.data.decoding import read_values
from semseg.data.files import LoadedFile
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.loader import ValidationLoader
from semseg.data.manifest import list_manifest
from semseg.data.pairs import Pair, list_pairs
from semseg.data.pipe_loader import PipeValidationLoader
from semseg.data.s3 import ObjectStore
from semseg.data.samples import Sampler
from semseg.errors import DataError
from semseg.types import IGNORED

GROUND_TRUTH = ColorMap(((0, "BACKGROUND", 0xFFFFFF), (1, "scratch", 0x2CA02C)))
INTERNAL = {"0": {"class-name": "BACKGROUND", "hex-color": "#ffffff"}}
BINARY: tuple[dict[str, Any], ...] = (
    {"scale": 255},
    {"scale": "128"},
    {"map": {"0": 0, "1": 255}},
    {"map": {"1": 255}},
)
"""Maps for masks of 0 and 255."""

Way = Callable[[Path, bytes, dict[str, Any]], list[int]]


def grey(depth: int, *samples: int, transparent: int | None = None, interlaced: int = 0) -> bytes:
    """A PNG file of one row of grey samples."""
    bits = np.unpackbits(np.array(samples, np.uint8)[:, None], axis=1)[:, 8 - depth :]
    rows = zlib.compress(b"\0" + np.packbits(bits).tobytes())
    trns = [] if transparent is None else [(b"tRNS", struct.pack(">H", transparent))]
    header = struct.pack(">IIBBBBB", len(samples), 1, depth, 0, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *trns, (b"IDAT", rows), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def image_file(width: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 1)).save(file, "PNG")
    return file.getvalue()


def pair(mask: bytes, colors: ColorMap | None = None) -> Pair:
    return Pair(LoadedFile("train/a.png", image_file()), LoadedFile("train_annotation/a.png", mask), colors)


def sampler(source: dict[str, Any]) -> Sampler:
    return Sampler(parse_label_map(source, 16, "map.json"), crop_size=1, base_size=1, seed=0, workers=0, checked=False)


def labels_of(pair: Pair, source: dict[str, Any]) -> list[int]:
    label_map = parse_label_map(source, 16, "map.json")
    labels: list[int] = label_map.apply(read_values(pair, label_map))[0].tolist()
    return labels


def plainly(_: Path, mask: bytes, source: dict[str, Any]) -> list[int]:
    return labels_of(pair(mask), source)


def by_ground_truth(_: Path, mask: bytes, source: dict[str, Any]) -> list[int]:
    return labels_of(pair(mask, GROUND_TRUTH), source)


def whole(_: Path, mask: bytes, source: dict[str, Any]) -> list[int]:
    """As for the final score and for `semseg quantize`."""
    (batch,) = ValidationLoader([pair(mask)], sampler(source), batch_size=1).epoch(0)
    labels: list[int] = batch.labels[0, 0].tolist()
    return labels


def from_a_manifest(folder: Path, mask: bytes, source: dict[str, Any]) -> list[int]:
    (folder / "a.png").write_bytes(mask)
    (folder / "b.png").write_bytes(image_file())
    entry = {"source-ref": "b.png", "x-ref": "a.png", "x-ref-metadata": {"internal-color-map": INTERNAL}}
    (folder / "x.manifest").write_text(json.dumps(entry))
    with ObjectStore() as store:
        (listed,) = list_manifest("train", folder / "x.manifest", store).pairs
    assert listed.colors
    return labels_of(listed, source)


def from_a_pipe(folder: Path, mask: bytes, source: dict[str, Any]) -> list[int]:
    (folder / "train_0").write_bytes(b"".join(part for file in (image_file(), mask) for part in frame([file])))
    (batch,) = PipeValidationLoader(folder / "train", sampler(source), 1, lambda: False, timeout=10).epoch(0)
    labels: list[int] = batch.labels[0, 0].tolist()
    return labels


WAYS = pytest.mark.parametrize("read", [plainly, by_ground_truth, whole, from_a_manifest, from_a_pipe])


@WAYS
class TestEveryWay:
    @pytest.mark.parametrize("source", BINARY)
    def test_one_bit_under_a_map_for_0_and_255(self, tmp_path: Path, read: Way, source: dict[str, Any]) -> None:
        expected = [IGNORED if source == {"map": {"1": 255}} else 0, 1, 1, 1]
        for mask in (grey(1, 0, 1, 1, 1), grey(8, 0, 255, 255, 255)):
            assert read(tmp_path, mask, source) == expected

    @pytest.mark.parametrize(("depth", "step"), [(2, 85), (4, 17)])
    def test_few_bits_under_a_map_for_8(self, tmp_path: Path, read: Way, depth: int, step: int) -> None:
        for source in ({"scale": step}, {"map": {str(number): number * step for number in range(4)}}):
            for mask in (grey(depth, 0, 1, 2, 3), grey(8, 0, step, 2 * step, 3 * step)):
                assert read(tmp_path, mask, source) == [0, 1, 2, 3]

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_scale_1_reads_as_stored(self, tmp_path: Path, read: Way, depth: int) -> None:
        top = (1 << depth) - 1
        for source in ({"scale": 1}, {"scale": "1.0"}):
            assert read(tmp_path, grey(depth, 0, 1, top, 1), source) == [0, 1, top, 1]

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_a_map_of_stored_values_reads_as_stored(self, tmp_path: Path, read: Way, depth: int) -> None:
        assert read(tmp_path, grey(depth, 0, 1, 1, 0), {"map": {"0": 1, "2": 0}}) == [2, 0, 0, 2]


@pytest.mark.parametrize("options", [{"transparent": 1}, {"transparent": 0}, {"interlaced": 1}])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparency_and_interlacing_change_nothing(tmp_path: Path, depth: int, options: dict[str, int]) -> None:
    samples = (0, 1, 1, 0) if "interlaced" not in options else (1,)  # one pixel is the first pass, alone
    for source in ({"scale": 1}, {"scale": 255 // ((1 << depth) - 1)}):
        assert plainly(tmp_path, grey(depth, *samples, **options), source) == list(samples)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_under_a_map_of_colours_grey_is_black_to_white(tmp_path: Path, depth: int) -> None:
    top = (1 << depth) - 1
    source = {"colors": {"0": "#000000", "1": "#ffffff"}}
    for read in (plainly, by_ground_truth, from_a_pipe):
        assert read(tmp_path, grey(depth, 0, top, 0, top), source) == [0, 1, 0, 1]


def test_indices_of_palettes_are_never_spread(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):
        file = io.BytesIO()
        image = Image.fromarray(np.array([[0, 1, 1, 0]], np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(file, "PNG", bits=bits)
        for source in ({"map": {"0": 0, "1": 1, "2": 255}}, {"scale": 1}):
            assert plainly(tmp_path, file.getvalue(), source) == [0, 1, 1, 0]


@pytest.mark.parametrize("depths", [(8, 8), (1, 1), (8, 1), (1, 8)])
def test_a_folder_of_0_and_255_has_the_same_classes_in_any_depths(tmp_path: Path, depths: Sequence[int]) -> None:
    for stem, depth in zip("ab", depths, strict=True):
        for channel, content in (
            ("train", image_file()),
            ("train_annotation", grey(depth, 0, *[(1 << depth) - 1] * 3)),
        ):
            (tmp_path / channel).mkdir(exist_ok=True)
            (tmp_path / channel / f"{stem}.png").write_bytes(content)
    listing = list_pairs("train", tmp_path / "train", tmp_path / "train_annotation")
    for source in BINARY[:3]:
        report = check([(listing, parse_label_map(source, 2, "map.json"))], workers=0)
        assert report.splits[0].class_pixels.tolist() == [2, 6]
        assert not report.suspicions


def test_a_value_that_is_no_class_once_spread_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pixel values 170 are not classes"):
        whole(tmp_path, grey(2, 0, 1, 2, 3), {"scale": 10})
