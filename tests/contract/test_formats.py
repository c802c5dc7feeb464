"""Every command takes a user's TIFF, WebP and BMP files, and does with them what it does with the same files as PNG."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_server
import small_train
from PIL import Image
from quick_job import QUICK
from small_model import known

import semseg
from semseg.cli import main
from semseg.data.shapes import write_shapes

KINDS = {"tiff": (".tif", ".tiff"), "bmp": (".bmp", ".bmp"), "webp": (".webp", ".png"), "tif": (".TIF", ".png")}
"""The suffixes of images and masks."""


def save(image: Image.Image, path: Path) -> None:
    options: dict[str, Any] = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    image.save(path, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images and masks, which have palettes, in a folder of each kind and in `png`."""
    root = tmp_path_factory.mktemp("formats")
    write_shapes(root / "shapes", train=8, validation=1, size=(48, 40), seed=3)
    for kind, suffixes in ({"png": (".png", ".png")} | KINDS).items():
        for folder, suffix in zip(("train", "train_annotation"), suffixes, strict=True):
            (root / kind / folder).mkdir(parents=True)
            for path in (root / "shapes" / folder).iterdir():
                with Image.open(path) as image:
                    assert folder == "train" or image.mode == "P"
                    save(image, root / kind / folder / f"{path.stem}{suffix}")
    return root


def folders(data: Path, kind: str) -> tuple[str, str]:
    return str(data / kind / "train"), str(data / kind / "train_annotation")


def job_options(data: Path, kind: str) -> list[str]:
    images, masks = folders(data, kind)
    return ["--train", images, "--train-annotation", masks, "--split", "0.25"]


@pytest.mark.parametrize("kind", KINDS)
def test_check_reports_the_same(kind: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for one in (kind, "png"):
        assert main(["check", *job_options(data, one), "--num-classes", "4", "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1]
    assert reports[0]["splits"]["train"]["pairs"] == 6


@pytest.mark.parametrize("kind", ["png", *KINDS])
def test_train_gives_the_same_network(kind: str, data: Path) -> None:
    options = [word for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", value)]
    job = data / f"job-{kind}"
    command = [sys.executable, small_train.__file__, "train", "--job", str(job), *job_options(data, kind), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("are converted from" in done.stdout) == (kind != "png")
    params = [(data / f"job-{one}/model/model_best.params") for one in ("png", kind)]
    assert params[0].read_bytes() == params[1].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_measures_the_same(kind: str, data: Path, small_base: Path, tmp_path: Path) -> None:
    found = []
    for one in (kind, "png"):
        images, masks = folders(data, one)
        options = ["--images", images, "--annotations", masks, "--precision", "f32", "--out", str(tmp_path / one)]
        with known(*small_server.DECLARED):
            assert main(["evaluate", str(small_base), *options]) == 0
        (evaluation,) = json.loads((tmp_path / one / "evaluation.json").read_text())["evaluations"]
        del evaluation["seconds_per_image"]
        for worst in evaluation["worst"]:
            worst["image"] = Path(worst["image"]).stem
        evaluation["drawn"] = re.findall(r"data:image/[^\"]+", (tmp_path / one / "report.html").read_text())
        found.append(evaluation)
    assert found[0] == found[1]
    assert found[0]["images"] == len(found[0]["worst"]) == 8
    assert found[0]["drawn"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("annotated", [True, False])
def test_quantize_compares_the_same(
    kind: str,
    annotated: bool,
    data: Path,
    small_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = []
    for one in (kind, "png"):
        model = tmp_path / f"model-{one}"
        model.mkdir()
        shutil.copy(small_base / "model/model_best.params", model)
        images, masks = folders(data, one)
        options = ["--images", images, *(["--annotations", masks] if annotated else [])]
        with known(*small_server.DECLARED):
            code = main(["quantize", str(model), *options])
        said.append((code, capsys.readouterr().out.splitlines()[-1]))
    assert said[0] == said[1]
    assert said[0][1].endswith("on 4 images")


@pytest.mark.parametrize("kind", KINDS)
def test_browse_shows_the_same(kind: str, data: Path, tmp_path: Path) -> None:
    sheets = []
    for one in (kind, "png"):
        sheet = tmp_path / f"{one}.html"
        assert main(["browse", *folders(data, one), "--num-classes", "4", "--out", str(sheet)]) == 0
        sheets.append(re.findall(r"data:image/[^\"]+", sheet.read_text()))
    assert len(sheets[0]) == 24
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize("kind", KINDS)
def test_predict_and_the_python_door_give_the_same(kind: str, data: Path, small_base: Path, tmp_path: Path) -> None:
    with known(*small_server.DECLARED):
        for one in (kind, "png"):
            options = ["--out", str(tmp_path / one), "--precision", "f32", "--save", "mask,npy"]
            assert main(["predict", str(small_base), folders(data, one)[0], *options]) == 0
        model = semseg.load(small_base, precision="f32")
    for written in sorted((tmp_path / "png").glob("*.npy")):
        assert (tmp_path / kind / written.name).read_bytes() == written.read_bytes()
        path = data / kind / "train" / f"{written.stem}{KINDS[kind][0]}"
        with Image.open(tmp_path / kind / f"{written.stem}.png") as mask:
            for form in (path, path.read_bytes()):
                assert (model.predict(form).mask == np.asarray(mask)).all()
    assert len(list((tmp_path / "png").glob("*.npy"))) == 8


def test_messages_of_a_check_name_the_user_s_files(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A converted file of another size, and one in a nested folder."""
    shutil.copytree(data / "tiff", tmp_path, dirs_exist_ok=True)
    for folder in ("train", "train_annotation"):
        nested = tmp_path / folder / "day"
        nested.mkdir()
        for path in (tmp_path / folder).glob("*.t*"):
            path.rename(nested / path.name)
    Image.new("L", (5, 4)).save(tmp_path / "train_annotation/day/0003.tiff")
    images, masks = str(tmp_path / "train"), str(tmp_path / "train_annotation")
    options = ["--train", images, "--train-annotation", masks, "--split", "0.25", "--num-classes", "4"]
    assert main(["check", *options]) == 1
    out = capsys.readouterr().out
    assert f"{masks}/day/0003.tiff has 5 x 4 pixels, {images}/day/0003.tif 48 x 40." in out
    assert "semseg-" not in out


def test_a_damaged_file_is_named_by_each_command(
    data: Path, small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "tiff", tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "train/0003.tif"
    damaged.write_bytes(damaged.read_bytes()[:900])
    images, masks = str(tmp_path / "train"), str(tmp_path / "train_annotation")
    job = ["--train", images, "--train-annotation", masks, "--split", "0.25"]
    commands = {
        ("check", *job, "--num-classes", "4"): str(damaged),
        ("evaluate", str(small_base), "--images", images, "--annotations", masks): "train/0003.tif",
        ("browse", images, masks, "--num-classes", "4", "--out", str(tmp_path / "sheet.html")): "train/0003.tif",
        ("predict", str(small_base), images, "--out", str(tmp_path / "out")): str(damaged),
    }
    for command, named in commands.items():
        with known(*small_server.DECLARED):
            assert main(list(command)) == 1
        assert f"semseg: {named}: The image cannot be decoded" in capsys.readouterr().err.replace("error: ", "")
    assert len(list((tmp_path / "out").glob("*.png"))) == 7


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("place", ["", "day"])
def test_a_link_that_leads_nowhere_is_named_by_each_command(
    kind: str, place: str, data: Path, small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands for an image that somebody wanted to be there: none goes on as if it were not."""
    for folder in ("train", "train_annotation"):
        shutil.copytree(data / kind / folder, tmp_path / folder / place, dirs_exist_ok=True)
    lost = next((tmp_path / "train" / place).glob("0003.*"))
    lost.unlink()
    lost.symlink_to(tmp_path / "nowhere.png")
    images, masks = str(tmp_path / "train"), str(tmp_path / "train_annotation")
    short = str(lost.relative_to(tmp_path))
    commands = {
        ("check", "--train", images, "--train-annotation", masks, "--split", "0.25", "--num-classes", "4"): str(lost),
        ("evaluate", str(small_base), "--images", images, "--annotations", masks): short,
        ("browse", images, masks, "--num-classes", "4", "--out", str(tmp_path / "sheet.html")): short,
        ("predict", str(small_base), images, "--out", str(tmp_path / "out")): str(lost),
        ("quantize", str(small_base), "--images", images): short,
        ("overlay", str(lost), f"{masks}/none.png", str(tmp_path / "o.png")): str(lost),
    }
    for command, named in commands.items():
        with known(*small_server.DECLARED):
            assert main(list(command)) == 1
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert re.search(
            rf"(^|\s){re.escape(named)} is a link to {tmp_path}/nowhere\.png, which does not exist\.", said
        )


def test_masks_that_are_webp_are_refused_with_what_they_are(
    data: Path, small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "webp/train").iterdir():
        (tmp_path / "masks").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "masks")
    options = ["--images", str(data / "webp/train"), "--annotations", str(tmp_path / "masks")]
    with known(*small_server.DECLARED):
        assert main(["evaluate", str(small_base), *options]) == 1
    said = capsys.readouterr().err
    assert "masks has no .png or .tif or .tiff or .bmp file: none among 8 entries." in said
    assert "0000.webp is a WebP file. Save annotations as PNG masks of one 8-bit channel." in said
