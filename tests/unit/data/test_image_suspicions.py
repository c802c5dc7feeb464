from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.label_map import parse_label_map
from semseg.data.manifest import list_manifest
from semseg.data.pairs import Pair, list_pairs
from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.reporting.data_report import as_json

PairWriter = Callable[..., Pair]
LABEL_MAP = parse_label_map({"scale": 1}, 3, "map.json")
RNG = np.random.default_rng(0)


def report_of(root: Path) -> Report:
    names = [name for name in ("train", "validation", "test") if (root / name).exists()]
    return check([(list_pairs(name, root / name, root / f"{name}_annotation"), LABEL_MAP) for name in names], workers=2)


def about(report: Report, word: str) -> list[str]:
    """The suspicions with a word, which the report for programs has too."""
    assert as_json(report)["suspicions"] == list(report.suspicions)
    return [line for line in report.suspicions if word in line]


class TestOrientation:
    @pytest.fixture
    def turn(self, tmp_path: Path, write_pair: PairWriter) -> Callable[..., None]:
        """Adds a pair of a size (height, width), its image, or its mask, with an EXIF orientation."""

        def turn(
            stem: str, orientation: int, size: tuple[int, int] = (8, 10), of: str = "train", jpeg: bool = False
        ) -> None:
            write_pair(stem, size=size)
            path = tmp_path / of / f"{stem}.png"
            exif = Image.Exif()
            exif[0x0112] = orientation
            with Image.open(path) as image:
                image.save(path.with_suffix(".jpg") if jpeg else path, exif=exif)
            if jpeg:
                path.unlink()

        return turn

    @pytest.mark.parametrize("jpeg", [True, False])
    @pytest.mark.parametrize("orientation", [2, 3, 4])
    def test_that_leaves_the_size(
        self, tmp_path: Path, turn: Callable[..., None], orientation: int, jpeg: bool
    ) -> None:
        turn("a", 1, jpeg=jpeg)
        for stem in "bcd":
            turn(stem, orientation, jpeg=jpeg)
        report = report_of(tmp_path)
        assert not report.problems
        assert about(report, "EXIF") == [
            "train: EXIF orientation, which is ignored here, rotates or mirrors 3 images (such as "
            f"train/b.{'jpg' if jpeg else 'png'}) against the masks, and the sizes match either way: if these were "
            "annotated as viewers show them, store image and mask as shown, without the tag"
        ]

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_of_squares(self, tmp_path: Path, turn: Callable[..., None], orientation: int) -> None:
        turn("a", orientation, size=(8, 8))
        (line,) = about(report_of(tmp_path), "EXIF")
        assert "mirrors 1 image (train/a.png) against" in line

    def test_of_a_mask(self, tmp_path: Path, turn: Callable[..., None]) -> None:
        turn("a", 3, of="train_annotation")
        assert len(about(report_of(tmp_path), "EXIF")) == 1

    def test_each_split_says_so(self, tmp_path: Path, turn: Callable[..., None], write_pair: PairWriter) -> None:
        turn("a", 3)
        write_pair("b", split="validation")
        (line,) = about(report_of(tmp_path), "EXIF")
        assert line.startswith("train: ")

    @pytest.mark.parametrize("orientation", [0, 1, 5, 6, 7, 8, 9, 300])
    def test_none_that_is_no_turn_or_that_the_size_shows(
        self, tmp_path: Path, turn: Callable[..., None], orientation: int
    ) -> None:
        turn("a", orientation)
        assert not report_of(tmp_path).problems
        assert not about(report_of(tmp_path), "EXIF")

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0\xff" * 9, b"x" * 50]
    )
    def test_malformed_metadata_are_no_matter(self, tmp_path: Path, write_pair: PairWriter, exif: bytes) -> None:
        write_pair("a")
        path = tmp_path / "train" / "a.png"
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
        report = report_of(tmp_path)
        assert not report.problems
        assert not about(report, "EXIF")


class TestSixteenBits:
    @staticmethod
    def store_grey(path: Path, *values: int) -> None:
        """8 x 10 pixels of 16 bits."""
        pixels = np.resize(np.array(values, np.uint16), (8, 10))
        Image.fromarray(pixels).save(path)

    def store_colour(self, path: Path, *values: int, channels: int = 3) -> None:
        """8 x 10 pixels; the last of 2 or 4 channels, transparency, is full."""
        samples = np.repeat(np.resize(values, (8, 10, 1)), channels, axis=2).astype(">u2")
        if channels % 2 == 0:
            samples[..., -1] = 65535
        kind = {2: 4, 3: 2, 4: 6}[channels]
        rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 10, 8, 16, kind, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
        parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))

    def test_of_12_bits(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for stem in "abc":
            write_pair(stem)
        for stem in "bc":
            self.store_grey(tmp_path / "train" / f"{stem}.png", *range(0, 4096, 53))
        assert about(report_of(tmp_path), "16-bit") == [
            "train: only the upper 8 bits of 2 16-bit images (such as train/b.png) are used, and they have only "
            "16 different values (0 to 15), as in 12-bit or thermal data: stretch the values over 0 to 65535, in "
            "requests too"
        ]

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_of_colour(self, tmp_path: Path, write_pair: PairWriter, channels: int) -> None:
        write_pair("a")
        self.store_colour(tmp_path / "train" / "a.png", *range(0, 3300, 41), channels=channels)
        (line,) = about(report_of(tmp_path), "16-bit")
        assert "bits of 1 16-bit image (train/a.png)" in line
        assert "13 different values (0 to 12)" in line

    def test_of_a_narrow_band(self, tmp_path: Path, write_pair: PairWriter) -> None:
        """Hundredths of a kelvin, around 27 degrees; a dead pixel changes nothing."""
        for number in range(200):
            write_pair(f"{number}")
            self.store_grey(
                tmp_path / "train" / f"{number}.png", *range(29500, 30500, 13), 65535 if number == 7 else 30000
            )
        (line,) = about(report_of(tmp_path), "16-bit")
        assert "(115 to 119)" in line

    def test_none_of_images_that_use_them(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for number in range(3):
            write_pair(f"{number}")
            self.store_grey(tmp_path / "train" / f"{number}.png", *RNG.integers(0, 65536, 80).tolist())
        assert not report_of(tmp_path).suspicions

    def test_dark_images_among_others_are_fine(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for number, high in enumerate((2000, 65536, 65536)):
            write_pair(f"{number}")
            self.store_colour(tmp_path / "train" / f"{number}.png", *RNG.integers(0, high, 80).tolist())
        assert not report_of(tmp_path).suspicions

    def test_none_of_8_bits(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a")
        Image.fromarray(np.full((8, 10), 3, np.uint8)).save(tmp_path / "train" / "a.png")
        assert not report_of(tmp_path).suspicions


class TestSharedImages:
    @pytest.fixture
    def share(self, tmp_path: Path, write_pair: PairWriter) -> Callable[..., None]:
        """Writes pairs of other images into a split, and one image of training under another name."""

        def share(split: str, stem: str, name: str) -> None:
            write_pair(name, split=split)
            content = (tmp_path / "train" / f"{stem}.png").read_bytes()
            (tmp_path / split / f"{name}.png").write_bytes(content)

        for stem in "abc":
            write_pair(stem)
        for stem in "xyz":
            write_pair(stem, split="validation")
        return share

    def test_of_train_and_validation(self, tmp_path: Path, share: Callable[..., None]) -> None:
        assert not report_of(tmp_path).suspicions
        share("validation", "b", "y")
        share("validation", "a", "z")
        assert report_of(tmp_path).suspicions == (
            "train and validation share 2 images, byte for byte (such as train/b.png and validation/y.png): validation "
            "then measures memorization; keep each image in only one of the two",
        )

    def test_of_the_test_set(self, tmp_path: Path, share: Callable[..., None]) -> None:
        share("validation", "a", "x")
        share("test", "a", "t")
        assert [line[: line.index(",")] for line in about(report_of(tmp_path), "byte for byte")] == [
            "train and validation share 1 image",
            "train and test share 1 image",
            "validation and test share 1 image",
        ]

    def test_copies_within_a_split_are_fine(self, tmp_path: Path, share: Callable[..., None]) -> None:
        share("train", "a", "b")
        assert not report_of(tmp_path).suspicions

    def test_images_that_cannot_be_read_are_not_alike(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for split in ("train", "validation"):
            write_pair("a", split=split)
            write_pair("b", split=split)
            (tmp_path / split / "b.png").write_bytes(b"")
            (tmp_path / split / "a.png").write_bytes(f"{split}".encode())
        assert not about(report_of(tmp_path), "byte for byte")

    def test_of_manifests(self, tmp_path: Path, share: Callable[..., None]) -> None:
        share("validation", "c", "x")
        with ObjectStore() as store:
            splits = []
            for split, stem in (("train", "c"), ("validation", "x")):
                entry = {"source-ref": f"{split}/{stem}.png", "x-ref": f"{split}_annotation/{stem}.png"}
                (tmp_path / f"{split}.manifest").write_text(json.dumps(entry))
                splits.append((list_manifest(split, tmp_path / f"{split}.manifest", store), LABEL_MAP))
            (line,) = about(check(splits, workers=2), "byte for byte")
        assert "source-ref train/c.png and line 1 of" in line
