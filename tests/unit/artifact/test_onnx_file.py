from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from semseg.artifact.onnx_file import DIGEST, verify
from semseg.errors import ArtifactError
from semseg.networks.onnx import OPSET, Graph, Tensor

OURS = "ab" * 32


def small_model() -> Any:
    """A convolution and a pooling, as they are in the networks."""
    arrays = {"c.weight": np.ones((4, 3, 1, 1), np.float32), "c.bias": np.ones(4, np.float32)}
    graph = Graph(arrays, "f")
    output = graph.adaptive_average(graph.convolution(Tensor("image", 3), "c", 4), 2)
    network = graph.finish(output, unused="auxlayer.")
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="p")
    helper.set_model_props(model, {"classes": "[]", DIGEST: OURS})
    return model


GOOD: bytes = small_model().SerializeToString()


def test_a_file_of_ours_passes(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(GOOD)
    verify(tmp_path / "model.onnx", OURS)


def external_data(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_data_in_an_attribute(model: Any) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))


def other_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Loop"


def graph_within(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", onnx.GraphProto(name="inner")))


def function(model: Any) -> None:
    model.functions.add(name="Conv", domain="")


def other_domain(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def training(model: Any) -> None:
    model.training_info.add()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (external_data, "has the tensor field 13"),
        (external_data_in_an_attribute, "has the attribute field 5"),
        (other_operator, "has the operator 'Loop', which no network here needs"),
        (graph_within, "has the attribute field 6"),
        (function, "has the model field 25"),
        (other_domain, "has the node field 7"),
        (sparse, "has the graph field 15"),
        (training, "has the model field 20"),
    ],
)
def test_what_no_network_needs_is_refused(tmp_path: Path, change: Callable[[Any], None], says: str) -> None:
    model = small_model()
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError) as caught:
        verify(path, OURS)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "semseg export" in caught.value.hint


@pytest.mark.parametrize(
    ("metadata", "says"),
    [({DIGEST: "cd" * 32}, "was made from other parameters"), ({"classes": "[]"}, "does not tell from which")],
)
def test_a_file_of_other_parameters_is_refused(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    model = small_model()
    helper.set_model_props(model, metadata)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=says):
        verify(tmp_path / "model.onnx", OURS)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(ArtifactError, match="1,073,741,825 bytes"):
        verify(tmp_path / "model.onnx", OURS)


def test_a_file_of_countless_fields_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01" * 200_000)
    with pytest.raises(ArtifactError, match="more than 100,000 fields"):
        verify(tmp_path / "model.onnx", OURS)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="is not a file"):
        verify(tmp_path / "model.onnx", OURS)


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for size in range(len(GOOD)):
        path.write_bytes(GOOD[:size])
        with pytest.raises(ArtifactError):
            verify(path, OURS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12))
def test_bytes_of_any_kind_pass_or_are_refused(tmp_path: Path, start: int, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GOOD[:start] + content + GOOD[start + len(content) :])
    with contextlib.suppress(ArtifactError):
        verify(path, OURS)
