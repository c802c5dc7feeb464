from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from discerning import BRIGHT, DARK, MIDDLE, labelled, picture

from semseg.artifact import onnx_file
from semseg.artifact.gate import read_gate
from semseg.artifact.model_dir import INT8, describe
from semseg.errors import DataError
from semseg.exporting import int8 as module
from semseg.exporting.calibration import activation_ranges
from semseg.exporting.int8 import quantize
from semseg.exporting.onnx_model import build_onnx
from semseg.inference.load import load_predictor
from semseg.types import UInt8
from semseg.version import __version__

Discerning = Callable[[Sequence[str]], Path]


def pictures() -> list[UInt8]:
    return [image for image, _ in labelled()]


def attempts(log: Sequence[str]) -> list[int]:
    """How many convolutions kept f32, attempt by attempt."""
    found = (re.search(r"; (\d+) of 55 inner convolutions keep f32\.$", message) for message in log)
    return [int(match[1]) for match in found if match]


def test_an_int8_network_sees_what_the_f32_one_sees(quantized: Path) -> None:
    for precision in ("f32", "int8"):
        predictor = load_predictor(quantized, precision=precision).predictor
        assert (predictor.predict(picture(40, seed=9)).labels()[MIDDLE] == DARK).all()
        assert (predictor.predict(picture(200, seed=9)).labels()[MIDDLE] == BRIGHT).all()


def test_the_file_is_a_quarter_in_size_and_passes_our_own_look_through_it(quantized: Path) -> None:
    f32 = len(build_onnx(describe(quantized)))
    assert 0.24 < (quantized / INT8).stat().st_size / f32 < 0.27
    assert {path.name for path in quantized.iterdir()} == {"model_best.params", INT8}
    digest = hashlib.sha256((quantized / "model_best.params").read_bytes()).hexdigest()
    assert onnx_file.verify(quantized / INT8, digest)


def test_it_says_what_it_was_made_from_and_how_it_did(quantized: Path) -> None:
    model = onnx.load(quantized / INT8)
    assert (model.producer_name, model.producer_version) == ("semseg-container", __version__)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    gate = read_gate(metadata)
    assert gate
    assert [gate.f32, gate.int8, gate.pictures] == pytest.approx([2 / 3, 2 / 3, 6])
    assert metadata["params_sha256"] == hashlib.sha256((quantized / "model_best.params").read_bytes()).hexdigest()
    assert metadata["semseg_version"] == __version__


def test_layers_that_lose_too_much_keep_f32(
    discerning: Discerning, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four convolutions take in the outlier: the second attempt leaves three of them out, the third all."""
    model = describe(discerning(["layer1"]))
    with caplog.at_level(logging.INFO):
        gate = quantize(model, tmp_path / INT8, pictures(), labelled)
    assert gate.passed
    assert attempts(caplog.messages) == [0, 3, 14]
    assert caplog.messages[0].startswith("mIOU 0.1667 in int8, 0.6667 in f32, on 6 pictures;")
    exact = {constant.name for constant in onnx.load(tmp_path / INT8).graph.initializer if constant.data_type == 1}
    outlier = {
        "layer1.1.conv1.weight",
        "layer1.2.conv1.weight",
        "layer2.0.conv1.weight",
        "layer2.0.downsample.0.weight",
    }
    assert exact >= outlier
    assert "layer3.0.conv2.weight" not in exact


def test_a_network_that_loses_too_much_at_last_is_not_kept(
    discerning: Discerning, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is the file that was there."""
    model = describe(discerning(["layer1", "layer2", "layer3", "layer4"]))
    before = model.params.read_bytes()
    (tmp_path / INT8).write_text("old")
    with caplog.at_level(logging.INFO):
        gate = quantize(model, tmp_path / INT8, pictures(), labelled)
    assert not gate.passed
    assert gate.f32 == pytest.approx(2 / 3)
    assert attempts(caplog.messages) == [0, 3, 14]
    assert caplog.messages[-1] == f"int8 loses more than 0.5 points of mIOU: there will be no {INT8}."
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in model.params.parent.iterdir()] == ["model_best.params"]
    assert model.params.read_bytes() == before


def test_pictures_of_another_kind_calibrate_badly_and_the_gate_tells(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all that they cause were a thousandth: what the others cause is cut off."""

    def shrunk(*given: Any) -> dict[str, tuple[float, float]]:
        return {name: (low / 1000, high / 1000) for name, (low, high) in activation_ranges(*given).items()}

    monkeypatch.setattr(module, "activation_ranges", shrunk)
    monkeypatch.setattr(module, "_IN_F32", (0,))
    images = [(picture(level, seed), None) for seed, level in enumerate((40, 120, 200))]
    assert not quantize(describe(model_dir), tmp_path / INT8, pictures(), lambda: images).passed


def test_a_picture_that_cannot_be_read_leaves_all_as_it_was(copy: Path) -> None:
    def damaged() -> Iterator[UInt8]:
        yield picture(40)
        raise DataError("7.png is damaged.")

    (copy / INT8).write_text("old")
    with pytest.raises(DataError, match=r"7\.png"):
        quantize(describe(copy), copy / INT8, damaged(), labelled)
    assert {path.name for path in copy.iterdir()} == {"model_best.params", INT8}
    assert (copy / INT8).read_text() == "old"
