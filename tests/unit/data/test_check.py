from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_masks import colored, mask

from semseg.data import check as check_module
from semseg.data.check import check
from semseg.data.files import File, LocalFile
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.data.report import Report, SplitReport
from semseg.errors import DataError, Stopped

PairWriter = Callable[..., Pair]


def report_of(root: Path, num_classes: int = 3, source: dict[str, Any] | None = None, **options: Any) -> Report:
    label_map = parse_label_map(source or {"scale": 1}, num_classes, "map.json")
    names = [name for name in ("train", "validation") if (root / name).exists()]
    splits = [(list_pairs(name, root / name, root / f"{name}_annotation"), label_map) for name in names]
    return check(splits, workers=2, **options)


def error_of(root: Path, num_classes: int = 3, source: dict[str, Any] | None = None) -> DataError:
    with pytest.raises(DataError) as raised:
        report_of(root, num_classes, source).raise_problems()
    return raised.value


def split_of(root: Path, num_classes: int = 3, source: dict[str, Any] | None = None) -> SplitReport:
    return report_of(root, num_classes, source).splits[0]


def path_of(file: File) -> Path:
    assert isinstance(file, LocalFile)
    return file.path


def store(file: File, image: Image.Image) -> None:
    image.save(path_of(file), "PNG")


@pytest.mark.req("R15", "R20")
def test_sound_channels_give_the_pixels_of_each_class(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(1, 1, 2, 255))
    write_pair("b", mask(1))
    write_pair("c", mask(2), split="validation")
    report = report_of(tmp_path)
    report.raise_problems()
    train, validation = report.splits
    assert (train.name, train.pairs, validation.name, validation.pairs) == ("train", 2, "validation", 1)
    assert train.class_pixels.tolist() == [155, 3, 1]
    assert train.masks_with_class.tolist() == [2, 2, 1]
    assert train.pixels_with_class.tolist() == [159, 159, 79]
    assert {value: train.values[value] for value in np.flatnonzero(train.values)} == {0: 155, 1: 3, 2: 1, 255: 1}
    assert (train.ignored, train.unlisted, train.invalid) == (1, 0, 0)
    assert validation.class_pixels.tolist() == [79, 0, 1]


def test_pixels_are_ignored_unlisted_or_of_no_class(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(1, 7, 255, 5, 5))
    split = split_of(tmp_path, source={"map": {"0": 0, "1": 1, "255": 5}})
    assert (split.class_pixels.tolist(), split.ignored, split.unlisted, split.invalid) == ([75, 1, 0], 3, 1, 0)
    split = split_of(tmp_path)
    assert (split.class_pixels.tolist(), split.ignored, split.unlisted, split.invalid) == ([75, 1, 0], 1, 0, 3)


def test_sizes_and_kinds_are_counted(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a")
    write_pair("b")
    wide = write_pair("c", size=(6, 12))
    store(wide.image, Image.new("LA", (12, 6)))
    store(wide.mask, Image.new("P", (12, 6)))
    jpeg = write_pair("d")
    with Image.open(path_of(jpeg.image)) as image:
        image.save(path_of(jpeg.image), "JPEG")
    split = split_of(tmp_path)
    assert split.sizes == {(10, 8): 3, (12, 6): 1}
    assert split.image_kinds == {"PNG RGB": 2, "PNG LA": 1, "JPEG RGB": 1}
    assert split.mask_kinds == {"PNG L": 3, "PNG P": 1}


def test_names_of_pixel_values_become_names_of_classes(write_pair: PairWriter) -> None:
    listing = Listing(
        "train",
        (write_pair("a"),),
        (),
        ColorMap(tuple((value, name, value) for value, name in enumerate(("void", "road", "car")))),
    )
    report = check([(listing, parse_label_map({"map": {"0": 1, "1": 2, "255": 0}}, 2, "map.json"))], workers=0)
    assert report.splits[0].classes.names == ("road", "car")


class TestProblems:
    def test_every_kind_is_in_one_error(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("fine")
        path_of(write_pair("lone").mask).unlink()
        write_pair("small", np.zeros((8, 9), np.uint8))
        cut = path_of(write_pair("cut", size=(30, 30)).image)
        cut.write_bytes(cut.read_bytes()[:-500])
        write_pair("coloured", np.random.default_rng(0).integers(0, 9, (8, 10, 3)).astype(np.uint8))
        write_pair("wrong", mask(3, 7))
        path_of(write_pair("text", split="validation").mask).write_text("no image")
        error = error_of(tmp_path)
        lines = error.message.splitlines()
        assert lines[0] == "6 problems in the data:"
        for line, expected in zip(
            [line for line in lines[1:] if not line.startswith("  ")],
            [
                "train/lone.png has no annotation in train_annotation.",
                "train_annotation/coloured.png: The mask has mode RGB and colours",
                "train/cut.png: The image cannot be decoded",
                "train_annotation/small.png has 9 x 8 pixels, train/small.png 10 x 8.",
                "train_annotation/wrong.png: pixel values 3, 7 are not classes under {'scale': 1}: num_classes is 3.",
                "validation_annotation/text.png: This is text, neither JPEG nor PNG.",
            ],
            strict=True,
        ):
            assert line.startswith(expected)
        lone = lines.index("train/lone.png has no annotation in train_annotation.")
        assert lines[lone + 1] == "  Image and annotation must have the same name except for the suffix."
        assert error.exit_code == 1

    def test_both_files_of_a_pair_may_be_bad(self, tmp_path: Path, write_pair: PairWriter) -> None:
        pair = write_pair("a")
        path_of(pair.image).write_bytes(b"")
        path_of(pair.mask).write_bytes(b"")
        assert error_of(tmp_path).message.startswith("2 problems")

    def test_many_of_one_kind_are_one_with_their_number_and_the_hint(
        self, tmp_path: Path, write_pair: PairWriter
    ) -> None:
        for number in range(50):
            path_of(write_pair(f"{number:02}").mask).unlink()
        write_pair("sound")
        error = error_of(tmp_path)
        lines = error.message.splitlines()
        assert lines == [
            "50 problems in the data:",
            "train/00.png has no annotation in train_annotation.",
            "  49 more like this: train/01.png, train/02.png, train/03.png and 46 more",
        ]
        assert error.hint == "Image and annotation must have the same name except for the suffix."

    def test_a_truncated_jpeg_is_found(self, tmp_path: Path, write_pair: PairWriter) -> None:
        path = path_of(write_pair("a", size=(64, 64)).image)
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
        path.with_suffix(".jpg").write_bytes(path.with_suffix(".jpg").read_bytes()[:-100])
        assert "train/a.jpg: The image cannot be decoded" in error_of(tmp_path).message

    def test_a_turned_image_is_explained(self, tmp_path: Path, write_pair: PairWriter) -> None:
        path = path_of(write_pair("a", np.zeros((10, 8), np.uint8)).image)
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as image:
            image.save(path, exif=exif)
        assert "EXIF orientation" in error_of(tmp_path).hint

    def test_swapped_sides_without_exif_are_plain_mismatch(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", np.zeros((10, 8), np.uint8))
        assert "EXIF" not in str(error_of(tmp_path))

    def test_annotations_that_are_ignored_altogether(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", np.full((8, 10), 255, np.uint8))
        assert "Every pixel of the annotations of train is ignored" in error_of(tmp_path).message

    @pytest.mark.req("R20")
    def test_an_empty_channel(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        assert "Channel train has no" in error_of(tmp_path).message

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_file_that_cannot_be_opened(self, write_pair: PairWriter, workers: int) -> None:
        pair = write_pair("a")
        path_of(pair.image).unlink()
        report = check([(Listing("train", (pair,), ()), parse_label_map({"scale": 1}, 3, "map.json"))], workers)
        assert [problem.message for problem in report.problems] == [
            "train/a.png cannot be read: No such file or directory."
        ]
        assert report.splits[0].class_pixels.sum() == 80


class TestMasksOfColours:
    def test_are_one_problem_with_the_colours_and_the_label_map(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(1))
        write_pair("b", colored((1, 2, 3), (1, 2, 3), (255, 0, 0)))
        write_pair("c", colored((255, 0, 0), (9, 9, 9)))
        report = report_of(tmp_path, num_classes=4)
        assert [str(problem) for problem in report.problems] == [
            "train_annotation/b.png: The mask has mode RGB and colours: which one is which class is unknown. The same "
            "is true of 1 more in train. The colours: #000000 96.87 %, #010203 1.25 %, #ff0000 1.25 %, #090909 0.62 %. "
            "Give a label map for all splits, with your class ids (semseg check --write-label-map FILE writes it): "
            '{"colors": {"0": "#000000", "1": "#010203", "2": "#090909", "3": "#ff0000"}}.'
        ]
        split = report.splits[0]
        assert split.colored == 2
        assert split.colors == ((0, 155), (0x010203, 2), (0xFF0000, 2), (0x090909, 1))
        assert split.mask_kinds == {"PNG L": 1, "PNG RGB": 2}
        assert split.class_pixels.tolist() == [79, 1, 0, 0]

    def test_pass_with_the_label_map_that_was_proposed(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", colored((1, 2, 3), (1, 2, 3), (255, 0, 0)))
        (problem,) = report_of(tmp_path).problems
        report = report_of(tmp_path, source=json.loads(problem.hint[problem.hint.index("{") :].rstrip(".")))
        assert not report.problems
        assert report.splits[0].class_pixels.tolist() == [77, 2, 1]
        assert (report.splits[0].colored, report.splits[0].colors) == (0, ())

    def test_show_20_colours_of_all_that_are_proposed(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", colored(*((9, 0, number) for number in range(30))))
        problem = error_of(tmp_path, num_classes=2)
        assert "#000000 62.5 %, #090000 1.25 %" in problem.message
        assert "#090012 1.25 % and 11 more." in problem.message
        assert problem.hint.startswith("num_classes is 2, but there are colours for 31 classes: raise it to 31, or ")
        assert ' writes it): {"colors": {"0": "#000000", "1": "#090000", "2": "#090001", ' in problem.hint
        assert problem.hint.endswith('"18": "#090011", "19": "#090012", ...}}.')
        suggested = report_of(tmp_path, num_classes=2).suggested_label_map
        assert suggested
        assert len(suggested["colors"]) == 31
        assert not report_of(tmp_path, num_classes=31, source=suggested).problems

    def test_like_photographs_are_not_listed(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for number in range(4):
            write_pair(str(number), colored(*((9, number, shade) for shade in range(79))))
        split = split_of(tmp_path)
        assert (split.colored, split.colors) == (4, ())
        error = error_of(tmp_path)
        assert "There are more than 256 colours, as in photographs." in error.message
        assert "JPEG" in error.hint

    def test_of_shades_of_grey_keep_their_error(self, tmp_path: Path, write_pair: PairWriter) -> None:
        transparent = Image.new("LA", (10, 8))
        transparent.putpixel((0, 0), (1, 9))
        store(write_pair("a").mask, transparent)
        assert "The mask has mode LA and varying transparency" in error_of(tmp_path).message

    def test_a_cut_one_is_a_damaged_file(self, tmp_path: Path, write_pair: PairWriter) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        path = path_of(write_pair("a", pixels, size=(40, 40)).mask)
        path.write_bytes(path.read_bytes()[:-900])
        assert "train_annotation/a.png: The image cannot be decoded" in error_of(tmp_path).message


def test_it_stops_on_request(tmp_path: Path, write_pair: PairWriter) -> None:
    for number in range(9):
        write_pair(str(number))
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    with pytest.raises(Stopped):
        report_of(tmp_path, stop=stop)
    assert asked == [False, False, True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("semseg-data")]


def test_nothing_is_printed_or_warned_of_without_a_terminal(
    tmp_path: Path, write_pair: PairWriter, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_pair("a", mask())
    assert report_of(tmp_path).suspicions
    assert capfd.readouterr() == ("", "")
    assert not caplog.messages


def test_the_number_of_pairs_is_logged_and_each_minute_how_many_are_read(
    tmp_path: Path, write_pair: PairWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """Each pair takes 25 seconds."""
    for number in range(5):
        write_pair(str(number))
    for number in range(2):
        write_pair(str(number), split="validation")
    now = 1000.0

    def stop() -> bool:
        nonlocal now
        now += 25
        return False

    with caplog.at_level("INFO", "semseg"):
        report_of(tmp_path, stop=stop, clock=lambda: now)
    assert caplog.messages == [
        "Checking the data: 7 pairs.",
        "Checking the data: 3 of 7 pairs are read.",
        "Checking the data: 6 of 7 pairs are read.",
        "Checking the data: all 7 pairs are read, in 175 s.",
    ]


def test_pipes_are_neither_checked_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "semseg"):
        check([], workers=2)
    assert not caplog.messages


def test_files_are_read_by_more_threads_than_there_are_cores(tmp_path: Path, write_pair: PairWriter) -> None:
    meeting = threading.Barrier(6, timeout=10)

    class Slow(LocalFile):
        def read(self) -> bytes:
            meeting.wait()
            return super().read()

    pairs = [write_pair(str(number)) for number in range(6)]
    slow = tuple(Pair(Slow(path_of(pair.image)), pair.mask) for pair in pairs)
    report = check([(Listing("train", slow, ()), parse_label_map({"scale": 1}, 3, "map.json"))], workers=2)
    report.raise_problems()


@pytest.mark.parametrize(("quota", "decoders"), [("max 100000", 20), ("250000 100000", 3), ("1000 100000", 1)])
def test_no_more_threads_decode_than_the_cgroups_quota_has_cores(
    write_pair: PairWriter, pools_with_quota: Callable[[str], list[int]], quota: str, decoders: int
) -> None:
    pools = pools_with_quota(quota)
    listing = Listing("train", (write_pair("a"), write_pair("b")), ())
    check([(listing, parse_label_map({"scale": 1}, 3, "map.json"))], workers=20).raise_problems()
    assert sorted(pools) == sorted([16, decoders])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_defect_names_the_files(write_pair: PairWriter, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    listing = Listing("train", (write_pair("a"),), ())
    monkeypatch.setattr(check_module, "require_classes", fail)
    with pytest.raises(MemoryError) as error:
        check([(listing, parse_label_map({"scale": 1}, 3, "map.json"))], workers)
    assert error.value.__notes__ == ["while checking train/a.png and train_annotation/a.png"]


def test_problems_do_not_keep_the_files_in_memory(tmp_path: Path, write_pair: PairWriter) -> None:
    """The frames of an error's traceback would, by the thousand."""
    cut = write_pair("a", size=(40, 40))
    for path in (path_of(cut.image), path_of(cut.mask)):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_pair("b", colored((1, 2, 3)))
    path_of(write_pair("c").image).write_text("")
    problems = report_of(tmp_path).problems
    assert len(problems) == 4
    for problem in problems:
        assert (problem.__traceback__, problem.__cause__, problem.__context__) == (None, None, None)
