"""`semseg check --write-label-map FILE`: what it proposes for masks of colours is what `--label-map FILE` reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.cli import main
from semseg.codecs.palettes import palette
from semseg.types import UInt8

VOC = palette("voc")
BLACK, RED, GREEN, BLUE, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
Color = tuple[int, int, int]
Report = dict[str, Any]


class Job:
    """The channels of a job in a folder, and the output of `semseg check` on them."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.label_map = root / "proposed.json"
        self._root, self._capsys = root, capsys

    def add(self, split: str, *masks: Image.Image) -> None:
        image_folder, mask_folder = self._root / split, self._root / f"{split}_annotation"
        for folder in (image_folder, mask_folder):
            folder.mkdir(exist_ok=True)
        for mask in masks:
            name = f"{len(list(image_folder.iterdir()))}.png"
            Image.new("RGB", mask.size).save(image_folder / name)
            mask.save(mask_folder / name)

    def check(self, num_classes: int, *options: str | Path) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        channels = [f"--{path.name.replace('_', '-')}={path}" for path in self._root.iterdir() if path.is_dir()]
        code = main(["check", *channels, "--num-classes", str(num_classes), *map(str, options)])
        return code, *self._capsys.readouterr()

    def report(self, num_classes: int, *options: str | Path) -> tuple[int, Report]:
        code, out, _ = self.check(num_classes, "--json", *options)
        return code, json.loads(out)

    def proposed(self, num_classes: int) -> dict[str, Any]:
        """Returns the label map that is written; with it, the same data has no errors and no unlisted colours."""
        _, report = self.report(num_classes, "--write-label-map", self.label_map)
        written: dict[str, Any] = json.loads(self.label_map.read_text())
        assert {json.dumps(split["suggested_label_map"]) for split in report["splits"].values()} == {
            json.dumps(written)
        }
        code, under_it = self.report(num_classes, "--label-map", self.label_map)
        assert (code, under_it["problems"]) == (0, [])
        assert not any("no label map lists" in line for line in under_it["suspicions"])
        assert all(split["suggested_label_map"] is None for split in under_it["splits"].values())
        colors: dict[str, Any] = written["colors"]
        return colors

    def masks_by_class(self, num_classes: int) -> dict[str, list[int]]:
        """The number of masks with each class, by split, with the label map that was written."""
        _, report = self.report(num_classes, "--label-map", self.label_map)
        return {name: [one["pictures"] for one in split["classes"]] for name, split in report["splits"].items()}


@pytest.fixture
def job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Job:
    return Job(tmp_path, capsys)


def stripes(*colors: Color) -> UInt8:
    """Stripes of equal size, uint8 (8, 10 * N, 3)."""
    return np.tile(np.repeat(np.array(colors, np.uint8), 10, axis=0), (8, 1, 1))


def rgb(*colors: Color) -> Image.Image:
    return Image.fromarray(stripes(*colors))


def rgba(*colors: Color) -> Image.Image:
    image = rgb(*colors)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def indexed(*colors: Color) -> Image.Image:
    """With a palette of these colours in this order."""
    image = Image.fromarray(np.tile(np.repeat(np.arange(len(colors), dtype=np.uint8), 10), (8, 1)))
    image.putpalette([channel for color in colors for channel in color])
    return image


@pytest.mark.parametrize("kind", [rgb, rgba, indexed], ids=["RGB", "RGBA", "P"])
def test_what_is_proposed_is_read(kind: Callable[..., Image.Image], job: Job) -> None:
    """Green is rare in train and frequent in validation; each palette has a different order."""
    job.add("train", kind(BLACK, RED), kind(BLACK, RED), kind(RED, BLACK, GREEN))
    job.add("validation", kind(GREEN, BLACK), kind(BLACK, GREEN, RED))
    assert job.proposed(3) == {"0": "#000000", "1": "#00ff00", "2": "#ff0000"}
    assert job.masks_by_class(3) == {"train": [3, 1, 3], "validation": [2, 2, 1]}


def test_the_colours_of_voc_have_its_numbers_and_its_border_is_ignored(job: Job) -> None:
    border = tuple(VOC[255].tolist())
    job.add("train", *(rgb(VOC[0], VOC[number], border) for number in range(1, 21)))
    job.add("validation", rgb(VOC[20], VOC[3], border))
    colors = job.proposed(21)
    assert colors == {str(number): "#" + VOC[number].tobytes().hex() for number in [*range(21), 255]}
    assert colors["255"] == "#e0e0c0"
    assert job.masks_by_class(21)["validation"] == [int(number in (3, 20)) for number in range(21)]


def test_masks_of_several_kinds_share_one_map(job: Job) -> None:
    """Without a label map, grey masks and those with a palette are read as values."""
    job.add("train", rgb(BLACK, RED), rgb(WHITE), rgb(BLACK, WHITE))
    job.add("validation", rgba(RED, BLACK), indexed(BLUE, RED))
    job.add("test", rgb(GREEN, RED))
    assert job.proposed(5) == {"0": "#000000", "1": "#0000ff", "2": "#00ff00", "3": "#ff0000", "4": "#ffffff"}


def test_masks_of_numbers_add_no_colours(job: Job) -> None:
    job.add("train", rgb(BLACK, RED, GREEN))
    job.add("validation", Image.fromarray(np.tile(np.array([[0, 1, 2, 255]], np.uint8), (8, 5))))
    job.report(3, "--write-label-map", job.label_map)
    assert json.loads(job.label_map.read_text()) == {"colors": {"0": "#000000", "1": "#00ff00", "2": "#ff0000"}}


def test_numbers_of_which_palettes_made_colours_are_numbers_again(job: Job) -> None:
    """Programs that shrink files do this to grey masks of few values: class 7 becomes index 1."""
    numbers = np.tile(np.repeat(np.array([0, 7, 9, 255], np.uint8), 10), (8, 1))
    job.add("train", Image.fromarray(numbers), indexed((0, 0, 0), (7, 7, 7)), indexed((7, 7, 7), (9, 9, 9)))
    job.add("validation", indexed((0, 0, 0), (9, 9, 9)))
    assert job.proposed(10) == {"0": "#000000", "7": "#070707", "9": "#090909", "255": "#ffffff"}


def test_the_exit_code_is_that_of_the_check(job: Job) -> None:
    job.add("train", rgb(BLACK, RED))
    job.add("validation", rgb(BLACK, RED))
    code, out, err = job.check(2, "--write-label-map", job.label_map)
    assert code == 1
    assert '{"colors": {"0": "#000000", "1": "#ff0000"}}.' in out
    assert err.splitlines()[-1] == f"semseg: The label map was written to {job.label_map}."


def test_the_label_map_is_suggested_once(job: Job) -> None:
    """The colours differ in frequency, and a palette contradicts another."""
    job.add("train", rgb(BLACK, RED, RED), indexed(BLACK, RED), indexed(RED, BLACK))
    job.add("validation", rgb(RED, BLACK, BLACK), rgb(BLACK))
    code, out, _ = job.check(2)
    assert code == 1
    assert out.count('{"colors": ') == 1
    assert "The label map suggested for train is for validation too." in out
    assert "2 errors." in out


def test_without_a_proposal_nothing_is_written_and_that_is_an_error(job: Job) -> None:
    job.add("train", indexed(BLACK, RED))
    job.add("validation", indexed(BLACK, RED))
    code, out, err = job.check(2, "--write-label-map", job.label_map)
    assert "No errors." in out
    assert code == 1
    assert err.splitlines()[-1].startswith(f"semseg: There is no label map to write into {job.label_map}. One is")
    assert not job.label_map.exists()


@pytest.mark.parametrize("place", ["proposed.json", "train", "absent/proposed.json", "link", "/proc/map.json"])
def test_a_file_that_is_there_or_cannot_be_is_refused_before_the_check(place: str, job: Job, tmp_path: Path) -> None:
    job.add("train", rgb(BLACK, RED))
    job.add("validation", rgb(BLACK, RED))
    job.label_map.write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    code, out, err = job.check(2, "--write-label-map", tmp_path / place)
    assert (code, out) == (1, "")
    said = f"{tmp_path / 'absent'} is not a folder." if "absent" in place else f"{tmp_path / place} exists already."
    if "proc" in place:  # where nothing can be written
        said = "/proc/map.json: No such file or directory."
    assert err.startswith(f"semseg: {said}")
    assert job.label_map.read_text() == "mine"


def test_with_too_few_classes_every_colour_is_written_all_the_same(job: Job) -> None:
    colors = [(0, 9, number) for number in range(30)]
    job.add("train", rgb(*colors[:20]))
    job.add("validation", rgb(*colors[10:]))
    code, out, _ = job.check(4, "--write-label-map", job.label_map)
    assert code == 1
    assert "num_classes is 4, but there are colours for 30 classes: raise it to 30, or give" in out
    assert len(json.loads(job.label_map.read_text())["colors"]) == 30
    code, _, _ = job.check(30, "--label-map", job.label_map)
    assert code == 0


def test_the_file_is_an_ordinary_one_and_no_other_is_left(job: Job, tmp_path: Path) -> None:
    job.add("train", rgb(BLACK, RED))
    job.add("validation", rgb(BLACK, RED))
    (tmp_path / "ordinary").touch()
    job.check(2, "--write-label-map", job.label_map)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"ordinary", "proposed.json"}
    assert job.label_map.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_share_of_nested_folders_with_other_names_is_checked_as_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        for folder in (tmp_path / "images/day", tmp_path / "labels/day"):
            folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / f"images/day/{number}.bmp")
        Image.new("L", (8, 6), number % 2).save(tmp_path / f"labels/day/{number}_L.png")
    command = ["check", "--train", str(tmp_path / "images"), "--train-annotation", str(tmp_path / "labels")]
    command += ["--num-classes", "2", "--json"]
    assert main([*command, "--suffix", "_L", "--split", "0.4"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: split["pairs"] for name, split in report["splits"].items()} == {"train": 3, "validation": 2}
    with pytest.raises(SystemExit):
        main([*command, "--split", "40"])
    assert "'40' is not valid: it must be a number between 0 and 1, such as 0.2." in capsys.readouterr().err
