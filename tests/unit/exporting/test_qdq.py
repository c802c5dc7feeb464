from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from small_networks import model_of

from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.exporting.qdq import inner_convolutions, rounding, to_int8
from semseg.networks.definitions import NETWORKS
from semseg.types import Float32

RANGES = {"MaxPool_2": (0.0, 4.0), "Concat_7": (-3.0, 5.0)}


@pytest.fixture
def model() -> onnx.ModelProto:
    """Pooling, a residual block of two convolutions, a concatenation, a convolution; one before, one after all."""
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 3), "b": (8, 8), "c": (8, 8), "d": (6, 16), "last": (5, 6)}
    arrays: dict[str, Any] = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = rng.normal(size=(*shape, 1, 1)).astype(np.float32) / 2
        arrays[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)

    def head(layers: Any, stages: Sequence[Any], num_classes: int) -> Any:
        x = layers.max_pool(layers.relu(layers.convolution(stages[-1], "first", 8)))
        total = layers.add(layers.convolution(x, "b", 8), layers.convolution(x, "c", 8))
        x = layers.convolution(layers.concatenate([layers.relu(total), total]), "d", 6)
        return layers.convolution(layers.relu(x), "last", num_classes)

    made = model_of(head, 5, arrays)
    helper.set_model_props(made, {"classes": "[]"})
    return made


def nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def run(model: onnx.ModelProto, image: Float32) -> Float32:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: Float32 = session.run(None, {"image": image})[0]
    return logits


def test_all_but_the_first_and_the_last_convolution_are_inner_ones(model: onnx.ModelProto) -> None:
    assert list(inner_convolutions(model)) == ["b.weight", "c.weight", "d.weight"]


def test_inner_convolutions_take_rounded_values_and_weights(model: onnx.ModelProto) -> None:
    rounded = to_int8(model, RANGES)
    onnx.checker.check_model(rounded, full_check=True)
    assert [list(node.input) for node in nodes(rounded, "Conv")] == [
        ["image", "first.weight", "first.bias"],
        ["MaxPool_2", "b.weight/rounded", "b.bias"],
        ["MaxPool_2", "c.weight/rounded", "c.bias"],
        ["Concat_7", "d.weight/rounded", "d.bias"],
        ["Relu_9", "last.weight", "last.bias"],
    ]
    assert [node.input[0] for node in nodes(rounded, "QuantizeLinear")] == ["Relu_1", "Add_5", "Relu_6"]
    assert rounded.metadata_props == model.metadata_props


def test_pooling_and_concatenation_move_integers(model: onnx.ModelProto) -> None:
    """What goes in is rounded in the range of what comes out, which makes no difference to it."""
    rounded = to_int8(model, RANGES)
    assert nodes(rounded, "MaxPool")[0].input == ["Relu_1/rounded"]
    assert nodes(rounded, "Concat")[0].input == ["Relu_6/rounded", "Add_5/rounded"]
    values = {constant.name: numpy_helper.to_array(constant) for constant in rounded.graph.initializer}
    assert values["Relu_1/scale"] == pytest.approx(4 / 255)
    assert values["Relu_6/scale"] == values["Add_5/scale"] == pytest.approx(8 / 255)
    assert values["Relu_6/zero"] == values["Add_5/zero"] == round(3 / 8 * 255)


def test_weights_are_rounded_by_channel(model: onnx.ModelProto) -> None:
    before = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    after = {constant.name: numpy_helper.to_array(constant) for constant in to_int8(model, RANGES).graph.initializer}
    integers, scale = after["b.weight/integers"], after["b.weight/scale"]
    assert integers.dtype == np.int8
    assert scale.shape == (8,)
    np.testing.assert_array_equal(np.abs(integers).max(axis=(1, 2, 3)), 127)
    error = np.abs(integers * scale[:, None, None, None] - before["b.weight"]).max(axis=(1, 2, 3))
    assert (error <= scale * 0.501).all()
    assert not after["b.weight/zero"].any()
    assert "b.weight" not in after
    np.testing.assert_array_equal(after["first.weight"], before["first.weight"])


def test_channels_of_no_weight_stay_so(model: onnx.ModelProto) -> None:
    constant = next(constant for constant in model.graph.initializer if constant.name == "b.weight")
    constant.CopyFrom(numpy_helper.from_array(np.zeros((8, 8, 1, 1), np.float32), "b.weight"))
    image = np.ones((1, 3, 4, 4), np.float32)
    assert np.isfinite(run(to_int8(model, RANGES), image)).all()


def test_exact_convolutions_keep_their_weights_and_take_what_was_not_rounded(model: onnx.ModelProto) -> None:
    rounded = to_int8(model, RANGES, exact=["d.weight"])
    assert nodes(rounded, "Conv")[3].input == ["Concat_7", "d.weight", "d.bias"]
    assert [node.input[0] for node in nodes(rounded, "QuantizeLinear")] == ["Relu_1"]
    image = np.random.default_rng(1).normal(size=(1, 3, 9, 7)).astype(np.float32)
    everything = ["b.weight", "c.weight", "d.weight"]
    np.testing.assert_array_equal(run(to_int8(model, RANGES, exact=everything), image), run(model, image))


def test_the_model_given_stays_as_it_is(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    to_int8(model, RANGES)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 2.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_values_are_rounded_to_255_steps_of_which_0_is_one(low: float, high: float) -> None:
    added, constants = rounding("image", low, high)
    ports = [helper.make_tensor_value_info(name, 1, [None]) for name in ("image", "image/rounded")]
    graph = helper.make_graph(added, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    low, high = min(low, 0), max(high, 0)
    values = np.linspace(low, high, 1000, dtype=np.float32)
    found = run(model, values)
    assert np.abs(found - values).max() <= (high - low) / 255 + 1e-6
    assert len(np.unique(found)) <= 256
    assert run(model, np.zeros(1, np.float32)) == 0


def test_both_engines_compute_about_the_same(model: onnx.ModelProto) -> None:
    rounded = to_int8(model, {"MaxPool_2": (0.0, 4.0), "Concat_7": (-8.0, 8.0)})
    image = np.random.default_rng(1).uniform(-1, 1, (1, 3, 33, 40)).astype(np.float32)
    ours = OpenVinoBackend(rounded.SerializeToString(), NETWORKS[0], 5, "f32", cores=1).logits(image)
    exact, theirs = run(model, image), run(rounded, image)
    assert 0 < np.abs(ours - exact).max() < 0.05 * np.abs(exact).max()
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(exact).max()
