"""`semseg evaluate`, by its command line, with a small network on OpenVINO."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from small_model import packed, write_small_model

import semseg
from semseg.artifact.model_dir import write_label_maps
from semseg.cli import main
from semseg.codecs.palettes import palette
from semseg.evaluation.boundary import BoundaryF1, boundary_f1
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.evaluation.measures import measures
from semseg.inference.load import load_predictor
from semseg.offline import combinations
from semseg.offline.evaluate import evaluate
from semseg.types import IGNORED, UInt8

CLASSES = 4


def run(model: Path, folder: Path, *options: object) -> int:
    arguments = ["--images", folder / "images", "--annotations", folder / "masks", *options]
    return main(["evaluate", str(model), *map(str, arguments)])


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Fifteen images of grey squares, with more noise in each, and masks of their brightness, partly ignored."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(15):
        grey = np.kron(rng.integers(0, 256, (3, 4 + number % 2)), np.ones((8, 8))).astype(np.int64)
        noisy = np.clip(grey + rng.integers(-1 - 6 * number, 2 + 6 * number, grey.shape), 0, 255).astype(np.uint8)
        labels = (grey * CLASSES // 256).astype(np.uint8)
        labels[:2] = IGNORED
        Image.fromarray(np.repeat(noisy[..., None], 3, 2)).save(tmp_path / f"images/{number:02}.png")
        Image.fromarray(labels).save(tmp_path / f"masks/{number:02}.png")
    return tmp_path


def pixels(path: Path) -> UInt8:
    with Image.open(path) as image:
        return np.asarray(image)


def evaluation(folder: Path, place: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out/evaluation.json").read_text())["evaluations"][place]
    return found


def masks(model: Path, folder: Path, scale: str = "none") -> dict[str, tuple[UInt8, UInt8]]:
    """The labels of each image, and the prediction of the server's predictor."""
    predictor = load_predictor(model, "openvino", "f32", scale=scale).predictor
    return {
        path.name: (pixels(folder / "masks" / path.name), predictor.predict(pixels(path)).labels())
        for path in sorted((folder / "images").iterdir())
    }


def test_the_numbers_are_those_of_the_server_s_masks(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small_model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    pairs = masks(small_model, annotated)
    matrix, boundary = ConfusionMatrix(CLASSES), BoundaryF1(CLASSES)
    for labels, predicted in pairs.values():
        matrix.update(labels, predicted)
        boundary.add(boundary_f1(labels, predicted, CLASSES))
    truth, guess = (np.concatenate([pair[side].ravel() for pair in pairs.values()]) for side in (0, 1))
    counted = truth != IGNORED
    found = evaluation(annotated)
    assert found["confusion_matrix"] == confusion_matrix(truth[counted], guess[counted]).tolist()
    assert (found["engine"], found["precision"], found["scale"]) == ("openvino", "f32", "model")
    assert (found["images"], found["failed"]) == (15, [])
    expected = measures(matrix).as_json([f"class {label}" for label in range(CLASSES)])
    per_class = [one.pop("boundary_f1") for one in found["classes"]]
    assert {key: found[key] for key in expected} == expected
    annotated_classes = [True] * CLASSES
    assert (per_class, found["boundary_f1"]) == (
        boundary.classes(annotated_classes),
        boundary.mean(annotated_classes),
    )

    lines = capsys.readouterr().out.splitlines()
    of_class = next(line.split() for line in lines if line.startswith("  0 class 0 "))
    row = measures(matrix).classes[0]
    assert of_class[3:7] == [f"{value:.4f}" for value in (row.iou, row.precision, row.recall, row.f1)]
    of_all = next(line.split() for line in lines if line.startswith("openvino"))
    assert of_all[1:5] == ["f32", "model", *[f"{matrix.mean_iou():.4f}"] * 2]


def test_the_worst_images_are_listed_and_drawn_beside_annotation_prediction_and_errors(
    small_model: Path, annotated: Path
) -> None:
    (annotated / "out/worst").mkdir(parents=True)
    (annotated / "out/worst/12_of_an_earlier_run.png").touch()
    assert run(small_model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    scores = {}
    for name, pair in masks(small_model, annotated).items():
        matrix = ConfusionMatrix(CLASSES)
        matrix.update(*pair)
        scores[name] = matrix.mean_iou_present() or 0.0
    worst = evaluation(annotated)["worst"]
    assert [one["image"] for one in worst] == [f"images/{name}" for name in sorted(scores, key=scores.__getitem__)[:12]]
    assert [one["mean_iou"] for one in worst] == sorted(scores.values())[:12]
    assert {one["file"] for one in worst} == {f"worst/{path.name}" for path in (annotated / "out/worst").iterdir()}
    name = worst[0]["image"].rpartition("/")[2]
    labels, predicted = masks(small_model, annotated)[name]
    image, annotation, prediction, errors = np.split(pixels(annotated / "out" / worst[0]["file"]), 4, axis=1)
    assert (image == pixels(annotated / "images" / name)).all()
    assert ((errors != image).any(axis=2) == ((labels != predicted) & (labels != IGNORED))).all()
    assert ((annotation == prediction).all(axis=2) >= (labels == predicted)).all()
    assert (annotation == image)[labels == IGNORED].all()


def test_each_scale_engine_and_precision_has_a_line(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", annotated / "out", "--engine", "openvino", "--precision", "f32,int8", "--scale", "1,0.5"]
    assert run(small_model, annotated, *options) == 1
    captured = capsys.readouterr()
    lines = [line.split()[:3] for line in captured.out.splitlines() if line.startswith("openvino")]
    assert lines == [["openvino", "f32", "1"], ["openvino", "f32", "0.5"]]
    error = f"openvino, int8, scale 1: {small_model} has no int8 model, model_int8.onnx. `semseg quantize` makes one."
    assert captured.err.splitlines()[-2] == f"semseg: {error} Or set --precision to auto, bf16 or f32."
    half = ConfusionMatrix(CLASSES)
    for pair in masks(small_model, annotated, "0.5").values():
        half.update(*pair)
    assert evaluation(annotated, 1)["confusion_matrix"] == half.counts.tolist()
    assert evaluation(annotated, 0)["confusion_matrix"] != half.counts.tolist()
    assert "has no int8 model" in evaluation(annotated, 2)["error"]


def test_masks_of_colours_lead_to_a_label_map_which_reads_them(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = palette("voc")
    for path in (annotated / "masks").iterdir():
        Image.fromarray(colours[pixels(path)]).save(path)
    assert run(small_model, annotated) == 1
    printed, said = capsys.readouterr()
    assert printed == ""
    assert "A label map of colours says it: --label-map FILE of train, evaluate, quantize and browse;" in said
    assert "`semseg check` suggests one." in said
    label_map = {"colors": {str(label): f"#{colours[label].tobytes().hex()}" for label in (*range(CLASSES), IGNORED)}}
    (annotated / "map.json").write_text(json.dumps(label_map))
    assert run(small_model, annotated, "--label-map", annotated / "map.json") == 0


def test_the_report_shows_the_numbers_of_all_evaluations_and_what_failed(small_model: Path, annotated: Path) -> None:
    options = ["--out", annotated / "out", "--precision", "f32,int8", "--scale", "1,0.5"]
    assert run(small_model, annotated, *options) == 1
    report = (annotated / "out/report.html").read_text()
    found, half = evaluation(annotated), evaluation(annotated, 1)
    for number in ("pixel_accuracy", "frequency_weighted_iou", "boundary_f1"):
        assert f">{found[number]:.4f}<" in report
    for label in range(CLASSES):
        assert f">class {label}<" in report
        assert f"{half['classes'][label]['iou']:.4f}" in report
    assert "IoU, openvino, f32, scale 0.5" in report
    assert "has no int8 model, model_int8.onnx." in report
    assert report.count("data:image/jpeg") == 12


def test_an_image_that_cannot_be_read_is_listed_and_the_others_count(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (annotated / "images/03.png").write_bytes((annotated / "images/03.png").read_bytes()[:100])
    Image.new("L", (5, 5)).save(annotated / "masks/07.png")
    assert run(small_model, annotated, "--out", annotated / "out") == 1
    assert "Evaluated on 13 images; 2 could not be evaluated." in (annotated / "out/report.html").read_text()
    failed = evaluation(annotated)["failed"]
    assert [f"semseg: {line}" for line in failed] == capsys.readouterr().err.splitlines()[-2:]
    assert failed[0].startswith("images/03.png: ")
    assert failed[1].startswith("masks/07.png has 5 x 5 pixels, images/07.png ")
    assert evaluation(annotated)["images"] == 13


def test_masks_may_have_an_ending_and_a_label_map_and_share_the_folder(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (annotated / "masks").iterdir():
        labels = pixels(path)
        Image.fromarray(np.where(labels == IGNORED, 255, labels * 10).astype(np.uint8)).save(
            annotated / f"images/{path.stem}_L.png"
        )
    label_map = {"map": {str(label): 10 * label for label in range(CLASSES)}, "names": ["sky", "road", "tree", "car"]}
    (annotated / "map.json").write_text(json.dumps(label_map))
    assert run(small_model, annotated, "--precision", "f32") == 1  # the masks count as images here
    capsys.readouterr()
    options = ["--annotations", annotated / "images", "--suffix", "_L", "--label-map", annotated / "map.json"]
    assert run(small_model, annotated, "--precision", "f32", "--out", annotated / "out", *options) == 0
    assert "1 road" in capsys.readouterr().out
    matrix = ConfusionMatrix(CLASSES)
    (annotated / "plain").mkdir()
    for path in (annotated / "images").glob("*_L.png"):
        path.rename(annotated / "plain" / path.name)
    for pair in masks(small_model, annotated).values():
        matrix.update(*pair)
    assert evaluation(annotated)["confusion_matrix"] == matrix.counts.tolist()
    assert [one["name"] for one in evaluation(annotated)["classes"]] == label_map["names"]
    assert run(small_model, annotated, "--suffix", "_label") == 1
    assert "masks has a name that ends with '_label': 00.png, 01.png, 02.png and 12 more." in capsys.readouterr().err


def test_annotations_are_read_by_the_label_map_of_the_training_unless_another_is_given(
    annotated: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_small_model(tmp_path_factory.mktemp("mapped") / "model", CLASSES, banded=True)
    assert run(model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    assert capsys.readouterr().err == ('semseg: The annotations are read by the default label map, {"scale": 1}.\n')
    of_classes = evaluation(annotated)["confusion_matrix"]
    write_label_maps(model, {"train": {"scale": 10}, "validation": {"scale": 10}})
    for path in (annotated / "masks").iterdir():
        labels = pixels(path)
        Image.fromarray(np.where(labels == IGNORED, IGNORED, labels * 10).astype(np.uint8)).save(path)
    assert run(model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    said = 'the label map of the training, {"scale": 10}'
    assert capsys.readouterr().err == f"semseg: The annotations are read by {said}.\n"
    assert evaluation(annotated)["confusion_matrix"] == of_classes
    assert json.loads((annotated / "out/evaluation.json").read_text())["label_map"] == said
    loaded = semseg.load(model, precision="f32")
    assert semseg.evaluate(loaded, annotated / "images", annotated / "masks").matrix.counts.tolist() == of_classes

    (annotated / "model.tar.gz").write_bytes(packed(model))
    assert run(annotated / "model.tar.gz", annotated, "--out", annotated / "out", "--precision", "f32") == 0
    assert evaluation(annotated)["confusion_matrix"] == of_classes

    (annotated / "map.json").write_text('{"scale": 1}')
    assert run(model, annotated, "--label-map", annotated / "map.json") == 1
    assert "are not classes under {'scale': 1}: num_classes is 4. Give a label map" in capsys.readouterr().err


def test_annotations_without_a_class_are_an_error_that_names_the_label_map(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (annotated / "map.json").write_text('{"map": {"0": 200}}')
    assert run(small_model, annotated, "--label-map", annotated / "map.json", "--precision", "f32") == 1
    printed, said = capsys.readouterr()
    assert printed == ""
    assert "Not one pixel is annotated with a class: read by" in said
    assert 'map.json, {"map": {"0": 200}}, all are ignored. Give a label map that fits the annotations.' in said


@pytest.mark.parametrize(
    ("out", "said"), [("file/out", "file/out: Not a directory"), ("out", "out/evaluation.json: Is a directory")]
)
def test_a_folder_that_cannot_be_made_or_written_is_an_error_before_the_work(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str], out: str, said: str
) -> None:
    (annotated / "file").touch()
    (annotated / "out/evaluation.json").mkdir(parents=True)
    assert run(small_model, annotated, "--out", annotated / out) == 1
    said = f"semseg: The results cannot be written: {annotated}/{said}. Name another folder with --out."
    printed, errors = capsys.readouterr()
    assert (printed, errors.splitlines()[-1]) == ("", said)


def test_what_cannot_be_evaluated_is_an_error(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (annotated / "masks/00.png").unlink()
    assert run(small_model, annotated) == 1
    assert "images/00.png has no annotation in masks." in capsys.readouterr().err
    for path in (annotated / "images").iterdir():
        path.write_text("text")
    Image.new("L", (5, 5)).save(annotated / "masks/00.png")
    assert run(small_model, annotated) == 1
    assert "Not one image can be evaluated. images/00.png: This is text" in capsys.readouterr().err
    assert run(small_model, annotated, "--scale", "1,many") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("semseg: The scale is 'many'.")


def test_an_image_that_does_not_fit_into_memory_fails_alone_and_is_named(
    small_model: Path, annotated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (800, 600)).save(annotated / "images/03.png")
    Image.new("L", (800, 600)).save(annotated / "masks/03.png")

    def thrifty(*arguments: Any, **options: Any) -> Any:
        return dataclasses.replace(load_predictor(*arguments, **options), memory=10 << 20)

    monkeypatch.setattr(combinations, "load_predictor", thrifty)
    assert run(small_model, annotated, "--out", annotated / "out") == 1
    message = "images/03.png: 800 x 600 pixels take 23 MB; 10 MB are free. Cut the image into parts, or use a machine"
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"semseg: {message}")
    assert evaluation(annotated)["images"] == 14


def test_names_of_images_may_be_as_long_as_names_can_be(small_model: Path, annotated: Path) -> None:
    for path in sorted((annotated / "images").iterdir()):
        for folder in ("images", "masks"):
            (annotated / folder / path.name).rename(annotated / folder / f"{'道' * 83}{path.stem}.png")
    assert run(small_model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    worst = evaluation(annotated)["worst"]
    assert {f"worst/{path.name}" for path in (annotated / "out/worst").iterdir()} == {one["file"] for one in worst}
    assert (annotated / "out/report.html").is_file()


def test_an_interrupt_keeps_the_combinations_that_were_measured(
    small_model: Path, annotated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any) -> Any:
        if arguments[2].factor == 0.5:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(combinations, "evaluate", interrupted)
    options = ["--out", annotated / "out", "--precision", "f32", "--scale", "1,0.5,2"]
    assert run(small_model, annotated, *options) == 130
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("openvino")] == ["1"]
    found = json.loads((annotated / "out/evaluation.json").read_text())["evaluations"]
    assert [(one["scale"], one["images"]) for one in found] == [("1", 15)]
    assert (annotated / "out/report.html").is_file()


def test_the_precision_is_the_one_that_computed(small_model: Path, annotated: Path) -> None:
    assert run(small_model, annotated, "--out", annotated / "out") == 0
    assert evaluation(annotated)["precision"] == load_predictor(small_model).precision != "auto"


def test_an_archive_is_called_by_its_own_name(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = annotated / "model.tar.gz"
    archive.write_bytes(packed(small_model))
    assert run(archive, annotated, "--precision", "int8", "--out", annotated / "out") == 1
    assert f"semseg: auto, int8, scale model: {archive} has no int8 model" in capsys.readouterr().err
    assert evaluation(annotated)["error"].startswith(f"{archive} has no int8 model")


def test_a_class_that_is_not_annotated_has_no_measure_though_it_is_predicted(
    small_model: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (annotated / "masks").iterdir():
        labels = pixels(path)
        Image.fromarray(np.where(labels == 2, 1, labels).astype(np.uint8)).save(path)
    assert run(small_model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    found = evaluation(annotated)
    absent = found["classes"][2]
    assert absent["predicted"] > 0
    assert [absent[key] for key in ("iou", "precision", "recall", "f1", "boundary_f1")] == [None] * 5
    assert found["boundary_f1"] == pytest.approx(np.mean([found["classes"][n]["boundary_f1"] for n in (0, 1, 3)]))
    lines = capsys.readouterr().out.splitlines()
    assert next(line.split()[3:] for line in lines if line.startswith("  2")) == [*"-----", "0", "0.00"]
    assert "Not annotated: 1 of 4 classes, which the mean over all counts as 0." in lines


def test_the_report_names_what_was_evaluated(small_model: Path, annotated: Path) -> None:
    assert run(small_model, annotated, "--out", annotated / "out", "--precision", "f32") == 0
    report = (annotated / "out/report.html").read_text()
    assert "<h3>What was evaluated</h3>" in report
    assert "Hyperparameters" not in report
