from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_model import stack_arrays

from semseg.artifact import onnx_file
from semseg.artifact.model_dir import describe, write_classes
from semseg.cli import main
from semseg.codecs.params import read_params, write_params
from semseg.errors import ArtifactError, UserError
from semseg.exporting import onnx_model
from semseg.exporting.onnx_model import build_onnx, write_onnx
from semseg.exporting.symbol import write_symbol
from semseg.types import Classes
from semseg.version import __version__


def test_the_model_says_what_it_is_and_what_it_was_made_from(small_dir: Path) -> None:
    write_classes(small_dir, Classes(("sky", "road", "Öl"), (None, 0x2CA02C, None)))
    model = onnx.load_from_string(build_onnx(describe(small_dir)))
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("semseg-container", __version__)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == ["sky", "road", "Öl"]
    assert json.loads(metadata["colors"]) == {"1": "#2ca02c"}
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(metadata["std"]) == [0.229, 0.224, 0.225]
    assert (metadata["semseg_version"], metadata["onnx_version"]) == (__version__, onnx.__version__)
    assert metadata["params_sha256"] == hashlib.sha256((small_dir / "model_best.params").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def network(model_dir: Path) -> onnx.ModelProto:
    return onnx.load_from_string(build_onnx(describe(model_dir)))


def test_inputs_and_outputs_have_names_types_and_open_sizes(network: onnx.ModelProto) -> None:
    ports = [*network.graph.input, *network.graph.output]
    shapes = [
        [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]  # a name, or a number
        for port in ports
    ]
    assert [port.name for port in ports] == ["image", "logits"]
    assert {port.type.tensor_type.elem_type for port in ports} == {onnx.TensorProto.FLOAT}
    assert shapes == [["N", 3, "H", "W"], ["N", 3, "ceil(H/8)", "ceil(W/8)"]]


def test_neither_batch_normalisation_nor_dropout_nor_the_auxiliary_head_is_left(network: onnx.ModelProto) -> None:
    assert {node.op_type for node in network.graph.node} == {"Conv", "Relu", "MaxPool", "Add"}
    assert not any(constant.name.startswith("auxlayer") for constant in network.graph.initializer)


def test_unknown_class_names_are_left_out(small_dir: Path) -> None:
    model = onnx.load_from_string(build_onnx(describe(small_dir)))
    assert not {"classes", "colors"} & {entry.key for entry in model.metadata_props}


def test_the_file_passes_this_projects_own_verification(small_dir: Path) -> None:
    write_onnx(describe(small_dir), small_dir / "model.onnx")
    digest = hashlib.sha256((small_dir / "model_best.params").read_bytes()).hexdigest()
    onnx_file.verify(small_dir / "model.onnx", digest)
    assert {path.name for path in small_dir.iterdir()} == {"model.onnx", "model_best.params"}


def test_parameters_of_another_network_are_an_error_that_names_their_file(
    copy: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = read_params(model_dir / "model_best.params")
    monkeypatch.setattr(onnx_model, "read_params", lambda path: arrays | {"bn1.gamma": np.ones(64, np.float32)})
    with pytest.raises(ArtifactError) as caught:
        write_onnx(describe(copy), copy / "model.onnx")
    assert f"{copy / 'model_best.params'} does not fit the network: bn1.gamma has shape (64,)" in caught.value.message
    assert not (copy / "model.onnx").exists()


@pytest.mark.needs("mxnet")
def test_the_command_writes_beside_the_parameters_or_where_out_says(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(copy)]) == 0
    assert main(["export", str(copy), "--format", "mxnet", "--out", str(tmp_path / "net-symbol.json")]) == 0
    files = [copy / "model.onnx", tmp_path / "net-symbol.json", tmp_path / "net-0000.params"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in files]
    assert all(path.stat().st_size for path in files)
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "net-symbol.json", "net-0000.params"}


@pytest.mark.parametrize("form", ["onnx", pytest.param("mxnet", marks=pytest.mark.needs("mxnet"))])
def test_a_place_that_cannot_be_written_is_the_user_s_error(
    copy: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nowhere" / "net-symbol.json"
    assert main(["export", str(copy), "--format", form, "--out", str(out)]) == 1
    assert "The model cannot be written" in capsys.readouterr().err


def test_a_symbol_of_another_ending_is_refused(copy: Path) -> None:
    with pytest.raises(UserError, match=r"net\.json does not end in -symbol\.json"):
        write_symbol(describe(copy), copy / "net.json")


@pytest.mark.parametrize("command", [["export"], ["export", "--format", "mxnet"], ["quantize", "--images", "."]])
def test_nothing_is_made_of_parameters_that_are_no_numbers(
    small_dir: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = stack_arrays()
    arrays["first.weight"] = np.full_like(arrays["first.weight"], np.nan)
    write_params(small_dir / "model_best.params", arrays)
    assert main([command[0], str(small_dir), *command[1:]]) == 1
    assert f"{small_dir / 'model_best.params'} has infinite or NaN values" in capsys.readouterr().err
    assert [path.name for path in small_dir.iterdir()] == ["model_best.params"]
