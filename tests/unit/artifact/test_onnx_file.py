from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper
from small_networks import model_of

from semseg.artifact.onnx_file import DIGEST, MAX_BYTES, verify
from semseg.errors import ArtifactError

DIGEST_OF_PARAMS = "ab" * 32


def pooled(layers: Any, stages: Sequence[Any], num_classes: int) -> Any:
    return layers.adaptive_average(layers.convolution(stages[-1], "c", num_classes), 2)


def small_model() -> Any:
    """A convolution and a pooling, as in the networks."""
    arrays = {"c.weight": np.ones((4, 3, 1, 1), np.float32), "c.bias": np.ones(4, np.float32)}
    model = model_of(pooled, 4, arrays)
    helper.set_model_props(model, {"classes": "[]", DIGEST: DIGEST_OF_PARAMS})
    return model


GOOD: bytes = small_model().SerializeToString()


def test_a_file_written_here_passes(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(GOOD)
    verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS)


def elsewhere(tensor: Any, location: str) -> Any:
    """The tensor with its values in another file."""
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def external_data_upwards(model: Any) -> None:
    elsewhere(model.graph.initializer[0], "../../etc/passwd")


def location_alone(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def external_data_in_a_constant_node(model: Any) -> None:
    tensor = elsewhere(helper.make_tensor("t", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True), "/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["t"], value=tensor))


def external_data_in_a_list_of_tensors(model: Any) -> None:
    tensor = elsewhere(helper.make_tensor("t", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True), "/etc/passwd")
    model.graph.node[0].attribute.append(helper.make_attribute("values", [tensor]))


def sparse_constant(model: Any) -> None:
    values, places = (
        helper.make_tensor(name, kind, [1], [1]) for name, kind in [("v", TensorProto.FLOAT), ("p", TensorProto.INT64)]
    )
    sparse_values = helper.make_sparse_tensor(values, places, [3])
    model.graph.node.append(helper.make_node("Constant", [], ["t"], sparse_value=sparse_values))


def nested_type(model: Any) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def graph_within(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", onnx.GraphProto(name="inner")))


def graphs_within(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("bodies", [onnx.GraphProto(name="inner")]))


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
        (external_data_upwards, "has the tensor field 13"),
        (location_alone, "has the tensor field 14"),
        (external_data_in_a_constant_node, "has the attribute field 5"),
        (external_data_in_a_list_of_tensors, "has the attribute field 10"),
        (sparse_constant, "has the attribute field 22"),
        (nested_type, "has the type field 4"),
        (graph_within, "has the attribute field 6"),
        (graphs_within, "has the attribute field 11"),
        (function, "has the model field 25"),
        (other_domain, "has the node field 7"),
        (sparse, "has the graph field 15"),
        (training, "has the model field 20"),
    ],
)
def test_what_reaches_outside_or_nests_is_refused(tmp_path: Path, change: Callable[[Any], None], says: str) -> None:
    model = small_model()
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError) as caught:
        verify(path, DIGEST_OF_PARAMS)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "semseg export" in caught.value.hint


def test_a_file_that_onnx_saved_with_its_weights_in_another_is_refused(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 0
    with pytest.raises(ArtifactError, match=r"has the tensor field 1[34]"):
        verify(path, DIGEST_OF_PARAMS)


def test_operators_need_not_be_known_here_and_attributes_may_be_numbers_and_texts(tmp_path: Path) -> None:
    model = small_model()
    values = {"f": 0.5, "i": 3, "s": "text", "floats": [0.5, 1.5], "ints": [1, 2], "strings": ["a", "b"]}
    model.graph.node.append(helper.make_node("TensorScatter", ["logits"], ["further"], **values))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS) == {"classes": "[]", DIGEST: DIGEST_OF_PARAMS}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [({DIGEST: "cd" * 32}, "was made from other parameters"), ({"classes": "[]"}, "does not say from which")],
)
def test_a_file_of_other_parameters_is_refused(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    model = small_model()
    helper.set_model_props(model, metadata)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=says):
        verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ArtifactError, match="1,073,741,825 bytes"):
        verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS)


def test_a_file_of_countless_fields_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01" * 200_000)
    with pytest.raises(ArtifactError, match="more than 100,000 fields"):
        verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="is not a file"):
        verify(tmp_path / "model.onnx", DIGEST_OF_PARAMS)


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for size in range(len(GOOD)):
        path.write_bytes(GOOD[:size])
        with pytest.raises(ArtifactError):
            verify(path, DIGEST_OF_PARAMS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12))
def test_bytes_of_any_kind_pass_or_are_refused(tmp_path: Path, start: int, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GOOD[:start] + content + GOOD[start + len(content) :])
    with contextlib.suppress(ArtifactError):
        verify(path, DIGEST_OF_PARAMS)
