"""`semseg predict`, by its command line, with a small network on OpenVINO."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_model import packed

from semseg.cli import main
from semseg.codecs.palettes import palette
from semseg.inference.load import load_predictor
from semseg.offline import predict as offline_predict
from semseg.offline.model import Model, Segmentation
from semseg.types import UInt8

CLASSES = 4


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--precision", "f32"])


def table(folder: Path) -> dict[str, list[str]]:
    with (folder / "class_shares.csv").open(newline="") as file:
        return {line[0]: line[1:] for line in csv.reader(file)}


def pixels(path: Path) -> UInt8:
    with Image.open(path) as image:
        return np.asarray(image)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_masks_mirror_the_folders_and_shares_are_those_of_the_masks(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small_model, images, "--out", tmp_path / "out") == 0
    assert capsys.readouterr() == ("6 images segmented.\n", "")
    found = names(tmp_path / "out")
    assert found == ["a.png", "b.png", "class_shares.csv", "e f.png", "town/a.png", "town/c.png", "town/far/d.png"]
    predictor = load_predictor(small_model, "openvino", "f32").predictor
    rows = table(tmp_path / "out")
    assert rows.pop("image") == ["width", "height", *(f"class {label}" for label in range(CLASSES))]
    assert sorted(rows) == [name for name in found if name != "class_shares.csv"]
    for name, (width, height, *shares) in rows.items():
        mask = pixels(tmp_path / "out" / name)
        assert (mask == predictor.predict(pixels(images / name)).labels()).all()
        assert mask.shape == (int(height), int(width))
        assert [float(share) for share in shares] == pytest.approx(
            [(mask == c).mean() for c in range(CLASSES)], abs=1e-6
        )


def test_everything_that_can_be_saved_agrees_with_the_mask(small_model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(small_model, images / "a.png", "--out", out, "--save", "mask,color,overlay,npy,json") == 0
    assert names(out) == ["a.json", "a.npy", "a.png", "a_color.png", "a_overlay.png", "class_shares.csv"]
    mask, probabilities = pixels(out / "a.png"), np.load(out / "a.npy")
    assert probabilities.shape == (CLASSES, *mask.shape)
    assert probabilities.dtype == np.float32
    assert (probabilities.argmax(axis=0) == mask).all()
    assert (pixels(out / "a_color.png") == palette("voc")[mask]).all()
    unchanged = (pixels(out / "a_overlay.png") == pixels(images / "a.png")).all(axis=2)
    assert unchanged[mask == 0].all()
    assert not unchanged[mask != 0].all()
    summary = json.loads((out / "a.json").read_text())
    assert [one["pixels"] for one in summary["classes"]] == [(mask == label).sum() for label in range(CLASSES)]
    assert [one["name"] for one in summary["classes"]] == [None] * CLASSES


def test_a_palette_colours_masks_and_colours(small_model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(small_model, images / "a.png", "--out", out, "--save", "color,mask", "--palette", "cityscapes") == 0
    with Image.open(out / "a.png") as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask.convert("RGB")) == pixels(out / "a_color.png")).all()
        assert (pixels(out / "a_color.png") == palette("cityscapes")[np.asarray(mask)]).all()


def test_the_colours_and_names_are_the_model_s(small_model: Path, images: Path, tmp_path: Path) -> None:
    named, out, names = tmp_path / "named", tmp_path / "out", ["sky", "road", "tree", "car"]
    shutil.copytree(small_model, named)
    colors = {"1": "#102030", "3": "#ff0000"}
    (named / "classes.json").write_text(json.dumps({"classes": names, "colors": colors}))
    assert run(named, images / "a.png", "--out", out, "--save", "color,mask,json", "--palette", "model") == 0
    mask, color = pixels(out / "a.png"), pixels(out / "a_color.png")
    assert (color[mask == 1] == (0x10, 0x20, 0x30)).all()
    assert (color[mask == 3] == (255, 0, 0)).all()
    assert table(out)["image"] == ["width", "height", *names]
    assert [one["name"] for one in json.loads((out / "a.json").read_text())["classes"]] == [
        "sky",
        "road",
        "tree",
        "car",
    ]
    assert run(named, images / "a.png", "--out", out, "--save", "color") == 0
    assert (pixels(out / "a_color.png") == color).all()


def test_the_network_gets_images_at_the_scale_that_is_asked_for(
    small_model: Path, images: Path, tmp_path: Path
) -> None:
    assert run(small_model, images / "a.png", "--out", tmp_path / "half", "--scale", "0.5") == 0
    predictor = load_predictor(small_model, "openvino", "f32", scale="0.5").predictor
    expected = predictor.predict(pixels(images / "a.png")).labels()
    assert (pixels(tmp_path / "half/a.png") == expected).all()
    assert run(small_model, images / "a.png", "--out", tmp_path / "whole") == 0
    assert (pixels(tmp_path / "whole/a.png") != expected).any()


def test_bad_images_are_listed_at_the_end_and_keep_no_others_from_it(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:200])
    (images / "town/c.png").write_text("no image")
    assert run(small_model, images, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out == "4 images segmented, 2 failed.\n"
    torn, text = captured.err.splitlines()
    assert torn.startswith(f"semseg: {images}/b.png: ")
    assert text.startswith(f"semseg: {images}/town/c.png: This is text, neither JPEG nor PNG.")
    expected = ["a.png", "class_shares.csv", "e f.png", "town/a.png", "town/far/d.png"]
    assert names(tmp_path / "out") == expected
    assert set(table(tmp_path / "out")) == {"image", *expected} - {"class_shares.csv"}


def test_each_error_names_its_file_once_and_speaks_of_it(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, packed = images / "lost.jpg", images / "packed.jpg"
    lost.symlink_to(tmp_path / "nowhere.jpg")
    packed.write_bytes(gzip.compress(b"no image"))
    (images / "sheet.jpg").write_text("no image")
    assert run(small_model, images, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out == "6 images segmented, 3 failed.\n"
    assert captured.err.splitlines() == [
        f"semseg: {lost} is a link to {tmp_path}/nowhere.jpg, which does not exist. Restore that file, or remove the "
        "link.",
        f"semseg: {packed}: This is gzip data, neither JPEG nor PNG. Unpack it first.",
        f"semseg: {images}/sheet.jpg: This is text, neither JPEG nor PNG. Give the JPEG or PNG file itself.",
    ]


def test_what_is_there_is_left_out_on_request(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only images with all of what is asked for, and a whole line in the table, which a kill may have cut."""
    out = tmp_path / "out"
    assert run(small_model, images, "--out", out, "--save", "mask,color") == 0
    before = table(out)
    (out / "town/a_color.png").unlink()
    kept = b"".join(line for line in (out / "class_shares.csv").read_bytes().splitlines(True) if b"far" not in line)
    (out / "class_shares.csv").write_bytes(kept + b"town/far/d.png,44,30,0.1")
    unchanged = (out / "a.png").stat().st_mtime_ns
    assert run(small_model, images, "--out", out, "--save", "mask,color", "--skip-existing") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 images segmented, 4 left out."
    assert table(out) == before
    assert (out / "a.png").stat().st_mtime_ns == unchanged
    assert (out / "town/a_color.png").is_file()
    assert run(small_model, images, "--out", out) == 0
    assert capsys.readouterr().out == "6 images segmented.\n"


def test_a_table_of_other_classes_is_not_continued(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "class_shares.csv").write_text("image,width,height,sky,road\n")
    assert run(small_model, images, "--out", tmp_path, "--skip-existing") == 1
    assert f"{tmp_path}/class_shares.csv is not a table of the classes of this model." in capsys.readouterr().err
    assert (tmp_path / "class_shares.csv").read_text() == "image,width,height,sky,road\n"


def test_the_model_may_be_a_job_or_an_archive(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(packed(small_model))
    for number, place in enumerate((small_model, small_model.parent, archive)):
        assert run(place, images / "a.png", "--out", tmp_path / str(number)) == 0
    assert capsys.readouterr().out == "1 image segmented.\n" * 3
    assert len({(tmp_path / str(number) / "a.png").read_bytes() for number in range(3)}) == 1


def test_images_and_model_may_be_in_s3(
    bucket: Any, small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put_object(Key="job/output/model.tar.gz", Body=packed(small_model))
    for name in ("a.png", "town/c.png"):
        bucket.put_object(Key=f"photos/{name}", Body=(images / name).read_bytes())
    model, photos = "s3://bucket/job/output/model.tar.gz", "s3://bucket/photos"
    assert run(model, photos, "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.png", "class_shares.csv", "town/c.png"]
    capsys.readouterr()
    bucket.put_object(Key="torn.tar.gz", Body=packed(small_model)[:200])
    for place, fault in (("torn.tar.gz", "is truncated"), ("photos", "holds neither model_best.params nor")):
        assert run(f"s3://bucket/{place}", photos, "--out", tmp_path / "none") == 1
        assert capsys.readouterr().err.startswith(f"semseg: s3://bucket/{place} {fault}")


def test_two_images_for_one_result_are_refused_before_anything_is_written(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(images / "a.png") as image:
        image.save(images / "a.jpg")
    assert run(small_model, images, "--out", tmp_path / "out") == 1
    error = f"semseg: The results of {images}/a.jpg and of {images}/a.png would both be {tmp_path}/out/a.png."
    assert capsys.readouterr().err.startswith(error)
    assert not (tmp_path / "out").exists()


def test_a_stop_leaves_whole_files_and_can_be_continued(
    small_model: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, calls, segment = tmp_path / "out", [0], Model.segment

    def interrupted(self: Model, image: UInt8) -> Segmentation:
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        return segment(self, image)

    monkeypatch.setattr(offline_predict, "usable_cores", lambda: 1)  # at most two images wait to be written
    monkeypatch.setattr(Model, "segment", interrupted)
    assert run(small_model, images, "--out", out) == 130
    assert "of 6 images; --skip-existing continues." in capsys.readouterr().err
    for name in names(out):
        assert name == "class_shares.csv" or pixels(out / name).size
    done = set(table(out)) - {"image"}
    assert 2 <= len(done) < 6
    monkeypatch.undo()
    assert run(small_model, images, "--out", out, "--skip-existing") == 0
    assert capsys.readouterr().out == f"{6 - len(done)} images segmented, {len(done)} left out.\n"
    assert len(names(out)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--save", "mask,colour"],
            "--save has 'colour': it takes mask, color, overlay, npy, json. Did you mean color?",
        ),
        (["--palette", "vocc"], "--palette has 'vocc': it takes model, voc, ade20k, cityscapes. Did you mean voc?"),
        (["--engine", "onnx"], "--engine has 'onnx': it takes auto, mxnet, openvino, torch."),
        (
            ["--precision", "int8"],
            "has no int8 model, model_int8.onnx. `semseg quantize` makes one. Or set --precision",
        ),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str],
    message: str,
    small_model: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(small_model), str(images), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_that_does_not_fit_into_memory_fails_alone(
    small_model: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (800, 600)).save(images / "big.png")

    def thrifty(*arguments: Any, **options: Any) -> Any:
        loaded = load_predictor(*arguments, **options)
        object.__setattr__(loaded, "memory", 10 << 20)
        return loaded

    monkeypatch.setattr("semseg.offline.model.load_predictor", thrifty)
    assert run(small_model, images, "--out", tmp_path / "out", "--save", "npy") == 1
    captured = capsys.readouterr()
    assert captured.out == "6 images segmented, 1 failed.\n"
    assert "big.png: 800 x 600 pixels take 16 MB; 10 MB are free. Leave npy out of --save" in captured.err


def test_a_folder_that_cannot_be_written_is_an_error(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert run(small_model, images, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"semseg: The results cannot be written: {tmp_path}/out: File exists.")


def test_a_result_that_cannot_be_written_fails_alone(
    small_model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/town").mkdir(parents=True)
    (tmp_path / "out/town/far").write_text("a file in the way of a folder")
    assert run(small_model, images, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out == "5 images segmented, 1 failed.\n"
    assert captured.err.startswith(
        f"semseg: {images}/town/far/d.png: The result cannot be written: {tmp_path}/out/town/far"
    )
    shutil.rmtree(tmp_path / "out")
