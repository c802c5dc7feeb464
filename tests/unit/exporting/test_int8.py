from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from discerning import labelled, noisy_image
from small_model import BRIGHT, DARK, write_small_model

from semseg.artifact import onnx_file
from semseg.artifact.gate import read_gate
from semseg.artifact.model_dir import INT8, describe
from semseg.errors import DataError
from semseg.exporting import int8 as module
from semseg.exporting.calibration import activation_ranges
from semseg.exporting.gate import compare
from semseg.exporting.int8 import quantize
from semseg.inference.load import load_predictor
from semseg.inference.predictor import Predictor
from semseg.inference.scaling import Scale
from semseg.types import UInt8
from semseg.version import __version__


def calibration_images() -> list[UInt8]:
    return [image for image, _ in labelled()]


def attempts(log: Sequence[str]) -> list[int]:
    """How many convolutions kept f32, attempt by attempt."""
    found = (re.search(r"; (\d+) of 16 inner convolutions keep f32\.$", message) for message in log)
    return [int(match[1]) for match in found if match]


def test_an_int8_network_sees_what_the_f32_one_sees(quantized: Path) -> None:
    for precision in ("f32", "int8"):
        predictor = load_predictor(quantized, precision=precision).predictor
        assert (predictor.predict(noisy_image(40, seed=9)).labels() == DARK).all()
        assert (predictor.predict(noisy_image(200, seed=9)).labels() == BRIGHT).all()


def test_the_file_belongs_to_the_parameters_beside_it(quantized: Path) -> None:
    assert {path.name for path in quantized.iterdir()} == {"model_best.params", INT8}
    digest = hashlib.sha256((quantized / "model_best.params").read_bytes()).hexdigest()
    assert onnx_file.verify(quantized / INT8, digest)


def test_it_says_what_it_was_made_from_and_how_it_did(quantized: Path) -> None:
    model = onnx.load(quantized / INT8)
    assert (model.producer_name, model.producer_version) == ("semseg-container", __version__)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    gate = read_gate(metadata)
    assert gate
    assert [gate.f32, gate.int8, gate.images] == pytest.approx([2 / 3, 2 / 3, 6])
    assert metadata["params_sha256"] == hashlib.sha256((quantized / "model_best.params").read_bytes()).hexdigest()
    assert metadata["semseg_version"] == __version__


def test_layers_that_lose_too_much_keep_f32(small_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Three convolutions take in an outlier: the second attempt leaves one of them in f32, the third all."""
    model = describe(write_small_model(small_dir, outliers=(2, 6, 10)))
    with caplog.at_level(logging.INFO):
        gate = quantize(model, small_dir / INT8, calibration_images(), labelled)
    assert gate.passed
    assert attempts(caplog.messages) == [0, 1, 4]
    assert caplog.messages[0].startswith("mIOU 0.1667 in int8, 0.6667 in f32, on 6 images;")
    exact = {constant.name for constant in onnx.load(small_dir / INT8).graph.initializer if constant.data_type == 1}
    weights = {name for name in exact if name.startswith("inner") and name.endswith("weight")}
    assert weights > {"inner.3.weight", "inner.7.weight", "inner.11.weight"}
    assert len(weights) == 4


def test_a_network_that_loses_too_much_at_last_is_not_kept(small_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is the file that was there."""
    model = describe(write_small_model(small_dir, outliers=(1, 3, 5, 7, 9)))
    before = model.params.read_bytes()
    (small_dir / INT8).write_text("old")
    with caplog.at_level(logging.INFO):
        gate = quantize(model, small_dir / INT8, calibration_images(), labelled)
    assert not gate.passed
    assert gate.f32 == pytest.approx(2 / 3)
    assert attempts(caplog.messages) == [0, 1, 4]
    assert caplog.messages[-1] == f"int8 loses more than 0.5 points of mIOU: {INT8} is not written."
    assert [path.name for path in small_dir.iterdir()] == ["model_best.params"]
    assert model.params.read_bytes() == before


def test_images_of_another_kind_calibrate_badly_and_the_gate_notices(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all that they cause were a thousandfold: what the others cause is rounded to nothing."""

    def stretched(*given: Any) -> dict[str, tuple[float, float]]:
        return {name: (1000 * low, 1000 * high) for name, (low, high) in activation_ranges(*given).items()}

    monkeypatch.setattr(module, "activation_ranges", stretched)
    monkeypatch.setattr(module, "_F32_SHARES", (0,))
    images = [(noisy_image(level, seed), None) for seed, level in enumerate((40, 120, 200))]
    assert not quantize(describe(small_dir), small_dir / INT8, calibration_images(), lambda: images).passed


def test_a_image_that_cannot_be_read_leaves_all_as_it_was(small_dir: Path) -> None:
    def damaged() -> Iterator[UInt8]:
        yield noisy_image(40)
        raise DataError("7.png is damaged.")

    (small_dir / INT8).write_text("old")
    with pytest.raises(DataError, match=r"7\.png"):
        quantize(describe(small_dir), small_dir / INT8, damaged(), labelled)
    assert {path.name for path in small_dir.iterdir()} == {"model_best.params", INT8}
    assert (small_dir / INT8).read_text() == "old"


def test_both_networks_get_images_at_the_size_at_which_they_will_be_served(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of calibration too."""
    (small_dir / "hyperparams.json").write_text('{"base_size": "24", "_serving_scale": "base"}')
    predictors: list[Predictor] = []
    calibrating: list[tuple[int, ...]] = []

    def compared(f32: Predictor, int8: Predictor, pairs: Any) -> Any:
        predictors.extend((f32, int8))
        return compare(f32, int8, pairs)

    def calibrated(network: Any, images: Any, cores: int) -> Any:
        calibrating.extend(image.shape for image in images)
        return activation_ranges(network, images, cores)

    monkeypatch.setattr(module, "compare", compared)
    monkeypatch.setattr(module, "activation_ranges", calibrated)
    quantize(describe(small_dir), small_dir / INT8, calibration_images(), labelled)
    assert {predictor.scale for predictor in predictors} == {Scale(long_side=24)}
    assert {max(shape) for shape in calibrating} == {24}
