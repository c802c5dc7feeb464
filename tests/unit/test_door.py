"""`import semseg`: models, evaluation and training for callers in Python."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_model import PIXELS, STACK, known, write_small_model

import semseg
from semseg.codecs.image_like import ImageLike
from semseg.data.shapes import write_shapes
from semseg.errors import ArtifactError, ImageError, UserError
from semseg.offline.model import Model
from semseg.types import UInt8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    with known((STACK,), (PIXELS,)):
        return semseg.load(write_small_model(tmp_path_factory.mktemp("model"), 3), precision="f32")


@pytest.fixture(scope="module")
def pixels() -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def test_the_import_brings_neither_numpy_nor_a_room() -> None:
    code = "import semseg, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)
    modules = done.stdout.split()
    assert "numpy" not in modules
    assert {name for name in modules if name.startswith("semseg")} == {"semseg", "semseg.version"}


def test_images_of_all_forms_have_the_same_prediction(model: Model, pixels: UInt8, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    with_alpha = np.dstack([pixels, pixels[..., :1]])
    forms: list[ImageLike] = [
        pixels,
        Image.fromarray(pixels),
        file.getvalue(),
        memoryview(file.getvalue()),
        tmp_path / "a.png",
    ]
    results = model.predict([*forms, str(tmp_path / "a.png"), with_alpha])
    assert len(results) == 7
    for result in results:
        assert (result.mask == results[0].mask).all()
        assert (result.image == pixels).all()
    probabilities, confidence = results[0].probabilities, results[0].confidence
    assert probabilities.shape == (3, 24, 40)
    assert probabilities.dtype == np.float32
    assert (probabilities.argmax(axis=0) == results[0].mask).all()
    assert np.allclose(probabilities.max(axis=0), confidence, atol=1e-6)
    assert results[0].overlay().shape == (24, 40, 3)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP"])
def test_files_in_other_formats_have_the_prediction_of_their_pixels(
    kind: str, model: Model, pixels: UInt8, tmp_path: Path
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a", kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = model.predict(pixels).mask
    for form in (tmp_path / "a", (tmp_path / "a").read_bytes()):
        result = model.predict(form)
        assert (result.image == pixels).all()
        assert (result.mask == expected).all()
    (tmp_path / "b.tif").write_bytes((tmp_path / "a").read_bytes()[:50])
    with pytest.raises(ImageError, match=rf"^{tmp_path}/b\.tif: The image cannot be decoded"):
        model.predict(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("absent.jpg", "absent.jpg cannot be read: No such file or directory."),
        (b"no image", "neither JPEG nor PNG"),
        (b"II*\0 no image", "The image cannot be decoded"),
        (np.zeros((3, 4, 3)), "The pixels are float64, not uint8."),
        (np.zeros((3, 4, 2), np.uint8), "The array has the shape (3, 4, 2)."),
        (Image.new("F", (3, 4)), "The image has mode F, whose range is not known."),
        (7, "An image of type int is not known."),
    ],
)
def test_what_is_no_image_is_named(model: Model, image: object, said: str) -> None:
    with pytest.raises(ImageError) as refusal:
        model.predict(image)  # type: ignore[call-overload]
    assert said in str(refusal.value)


def test_results_are_saved_whole_in_the_form_of_their_names(model: Model, pixels: UInt8, tmp_path: Path) -> None:
    result = model.predict(pixels)
    for name in ("mask.png", "probabilities.npy", "summary.json"):
        result.save(tmp_path / name)
    with Image.open(tmp_path / "mask.png") as mask:
        assert (np.asarray(mask) == result.mask).all()
    assert (np.load(tmp_path / "probabilities.npy") == result.probabilities).all()
    shares = [one["share"] for one in json.loads((tmp_path / "summary.json").read_text())["classes"]]
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(UserError, match=r"mask.gif ends with none of .png, .npy and .json"):
        result.save(tmp_path / "mask.gif")
    with pytest.raises(UserError, match=r"The result cannot be written: .*absent.*: No such file or directory"):
        result.save(tmp_path / "absent/mask.png")


def test_threads_share_a_model(model: Model, pixels: UInt8) -> None:
    images = [np.roll(pixels, shift, axis=1)[: 8 + shift] for shift in range(12)]
    alone = [model.predict(image).mask for image in images]
    together: dict[int, UInt8] = {}

    def work(numbers: range) -> None:
        for number in numbers:
            together[number] = model.predict(images[number]).mask

    threads = [threading.Thread(target=work, args=(range(first, 12, 3),)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all((together[number] == alone[number]).all() for number in range(12))


def test_a_model_is_measured_as_by_the_command(model: Model, tmp_path: Path) -> None:
    write_shapes(tmp_path, train=1, validation=3, size=(32, 24), seed=1)
    for mask in (tmp_path / "validation_annotation").glob("*.png"):
        with Image.open(mask) as image:
            reduced = Image.fromarray(np.minimum(np.asarray(image), 2))
        reduced.save(mask)
    measured = semseg.evaluate(model, tmp_path / "validation", tmp_path / "validation_annotation")
    assert measured.images == 3
    assert measured.measures.pixels == 3 * 32 * 24
    with pytest.raises(ArtifactError, match="There is no model at"):
        semseg.evaluate(tmp_path / "absent", tmp_path / "validation", tmp_path / "validation_annotation")


def test_a_training_that_is_refused_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_shapes(tmp_path / "shapes", train=2, validation=1, size=(32, 24), seed=1)
    with pytest.raises(UserError, match=r"(?s)exit code 1: .*--num-classes is missing"):
        semseg.train(job=tmp_path / "job", train=tmp_path / "shapes/train")
    (tmp_path / "job/output").mkdir(parents=True)
    (tmp_path / "job/output/failure").write_text("an earlier reason")
    with pytest.raises(UserError, match=r"(?s)There is no option --crop-sise. Did you mean --crop-size\?"):
        semseg.train(job=tmp_path / "job", train="x", crop_sise=3)
    data = {"train": tmp_path / "shapes/train", "train_annotation": tmp_path / "shapes/train_annotation"}
    with pytest.raises(UserError, match=r"exit code 1: semseg: Missing required channel: validation, "):
        semseg.train(job=tmp_path / "other", num_classes=4, **data)
    assert "Missing required channel" in capfd.readouterr().out  # what the process prints, stderr too


def test_models_results_and_evaluations_describe_themselves_in_a_line(tmp_path: Path) -> None:
    """Of twelve classes, of which one has a long name."""
    names = ["road", "n" * 200, *(f"kind {number}" for number in range(2, 12))]
    job = tmp_path / ("j" * 200)
    write_small_model(job / "model", 12)
    (job / "model/classes.json").write_text(json.dumps({"classes": names}))
    with known((STACK,), (PIXELS,)):
        model = semseg.load(job, precision="f32")
    assert repr(model) == (
        f"Model('...{'j' * 57}', stack on pixels, 12 classes: road, {'n' * 21}..., kind 2, kind 3, kind 4 and 7 more)"
    )
    grey = np.zeros((10, 40, 3), np.uint8)
    grey[:, 30:] = 255
    assert repr(model.predict(grey)) == f"Segmentation(40 x 10, road 75 %, {'n' * 21}... 25 %)"
    write_shapes(tmp_path, train=1, validation=3, size=(32, 24), seed=1)
    (tmp_path / "validation/0000.jpg").write_bytes(b"no image")
    measured = semseg.evaluate(model, tmp_path / "validation", tmp_path / "validation_annotation")
    scores = measured.measures
    assert repr(measured) == (
        f"Evaluation(2 images, mIOU {scores.mean_all.iou:.4f}, pixel accuracy {scores.pixel_accuracy:.4f}, 1 failed)"
    )
    assert max(len(repr(worst)) for worst in measured.worst) < 1000


def test_a_notebook_shows_a_result_as_its_overlay(model: Model, pixels: UInt8) -> None:
    result = model.predict(pixels)
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert (np.asarray(shown) == result.overlay()).all()
    with Image.open(io.BytesIO(model.predict(np.zeros((10, 2001, 3), np.uint8))._repr_png_())) as shown:
        assert shown.size == (667, 4)
