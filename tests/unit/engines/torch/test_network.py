from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy_layers import NumpyLayers
from untrained import ALGORITHMS, ENCODERS, random_arrays

from semseg.engines.torch.interpolation import resize
from semseg.engines.torch.network import TorchNetwork, arrays_of, assign
from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, by_name
from semseg.networks.layers import Layers, T
from semseg.types import Arrays, Float32

SIZES = [(1, 1), (2, 5), (6, 6), (7, 13), (60, 45)]


def values(*shape: int) -> Float32:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def network_of(head: Callable[..., Any], arrays: Arrays | None = None) -> TorchNetwork:
    """A network, in inference, whose head runs directly on the image."""
    nothing = Backbone("nothing", "Nothing", lambda layers, image: [image])
    network = Network("test", "Test", lambda layers, stages, _: head(layers, stages[-1]), None, "c", 1, {})
    made = TorchNetwork(network, nothing, 2, auxiliary=True)
    assign(made.tensors(), arrays or {}, "a test")
    made.eval()
    return made


def run(head: Callable[..., Any], image: Float32, arrays: Arrays | None = None) -> Float32:
    with torch.no_grad():
        (logits,) = network_of(head, arrays)(torch.from_numpy(image))
    found: Float32 = logits.numpy()
    return found


@pytest.mark.parametrize("norm", ["", "n.1"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 12])
def test_a_convolution_keeps_the_size_but_for_its_stride(dilation: int, stride: int, kernel: int, norm: str) -> None:
    def head(layers: Layers[T], x: T) -> T:
        return layers.convolution(x, "a.c", 4, kernel, stride=stride, dilation=dilation, norm=norm)

    arrays: Arrays = {"a.c.weight": values(4, 3, kernel, kernel)}
    if norm:
        arrays |= {
            f"n.1.{name}": number * values(4) for number, name in enumerate(("gamma", "beta", "running_mean"), 2)
        }
        arrays["n.1.running_var"] = 0.1 + values(4) ** 2
    else:
        arrays["a.c.bias"] = values(4)
    for size in SIZES:
        image = values(2, 3, *size)
        found = run(head, image, arrays)
        assert found.shape == (2, 4, *(-(-side // stride) for side in size))
        expected = head(NumpyLayers(arrays), image)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES)
def test_layers_without_parameters(size: tuple[int, int]) -> None:
    def several(layers: Layers[T], x: T) -> T:
        joined = layers.max_pool(layers.concatenate([layers.add(layers.relu(x), x), x]))
        averages = [layers.stretch(layers.adaptive_average(joined, cells), like=joined) for cells in (1, 2, 3, 6)]
        return layers.concatenate([joined, *averages, layers.spread(layers.global_average(joined), like=joined)])

    image = values(2, 3, *size)
    np.testing.assert_allclose(run(several, image), several(NumpyLayers({}), image), atol=5e-6)


@pytest.mark.parametrize(("source", "target"), [((1, 1), (3, 4)), ((2, 5), (1, 1)), ((30, 23), (240, 177))])
def test_resizing_aligns_the_corners_and_so_does_its_gradient(source: Any, target: Any) -> None:
    """As PyTorch's own, which is exact where a single thread computes it in float64."""
    x = torch.from_numpy(values(2, 3, *source)).requires_grad_()
    weights = torch.from_numpy(values(2, 3, *target))
    exact = x.detach().double().requires_grad_()
    expected = torch.nn.functional.interpolate(exact, target, mode="bilinear", align_corners=True)
    found = resize(x, *target)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=5e-6 * float(x.detach().abs().max()))
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-5, atol=1e-4)


def test_resizing_is_computed_in_float32_whatever_autocast_says() -> None:
    x = torch.from_numpy(values(1, 2, 30, 30)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = resize(x, 240, 240)
    torch.testing.assert_close(found, resize(x.float(), 240, 240), rtol=0, atol=0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("backbone", ENCODERS)
def test_parameters_are_those_of_the_table_in_and_out(algorithm: str, backbone: str) -> None:
    arrays = random_arrays(algorithm, backbone, 3)
    network = TorchNetwork(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), 3, auxiliary=True)
    before = arrays_of(network.tensors())
    assert not any(array.any() for array in before.values())
    for array in arrays.values():
        array.flags.writeable = False  # as of a file in memory
    assign(network.tensors(), arrays, "a test")
    found = arrays_of(network.tensors())
    assert list(found) == list(network.table)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert {id(tensor) for tensor in network.parameters()} == {
        id(tensor) for name, tensor in network.tensors().items() if network.table[name].trained
    }
    assert not any(array.any() for array in before.values())  # copies


def test_arrays_that_do_not_fit_change_nothing() -> None:
    network = network_of(
        lambda layers, x: layers.convolution(x, "c", 2), {"c.weight": values(2, 3, 1, 1), "c.bias": values(2)}
    )
    before = arrays_of(network.tensors())
    with pytest.raises(ArtifactError, match=r"here\.params does not fit the network: c\.bias is missing"):
        assign(network.tensors(), {"c.weight": 2 * before["c.weight"]}, "here.params")
    np.testing.assert_array_equal(network.tensors()["c.weight"].detach().numpy(), before["c.weight"])


def test_the_layers_keep_the_fast_memory_format_with_the_image() -> None:
    network = network_of(
        lambda layers, x: layers.convolution(x, "c", 2, 3), {"c.weight": values(2, 3, 3, 3), "c.bias": values(2)}
    )
    (logits,) = network(torch.from_numpy(values(2, 3, 8, 8)))
    assert logits.is_contiguous(memory_format=torch.channels_last)
    assert network.c.weight.is_contiguous(memory_format=torch.channels_last)


# Training


def norm_network() -> TorchNetwork:
    """A batch normalisation of two channels, which are the image's first two."""
    start = {"gamma": [2.0, 3.0], "beta": [5.0, 7.0], "running_mean": [1.0, 2.0], "running_var": [3.0, 4.0]}
    parameters: Arrays = {f"n.{name}": np.array(value, np.float32) for name, value in start.items()}
    parameters["c.weight"] = np.eye(2, 3, dtype=np.float32)[..., None, None]
    return network_of(lambda layers, x: layers.convolution(x, "c", 2, norm="n"), parameters)


def test_batch_normalisation_keeps_a_tenth_of_a_batch_in_its_statistics() -> None:
    image = values(2, 3, 4, 5)
    network = norm_network().train()
    (found,) = network(torch.from_numpy(image))
    mean, variance = image[:, :2].mean((0, 2, 3)), image[:, :2].var((0, 2, 3))
    unbiased = variance * 40 / 39
    scale = np.array([2, 3]) / np.sqrt(variance + 1e-5)
    expected = (image[:, :2] - mean[:, None, None]) * scale[:, None, None] + np.array([5, 7])[:, None, None]
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    after = arrays_of(network.tensors())
    np.testing.assert_allclose(after["n.running_mean"], 0.9 * np.array([1, 2]) + 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(after["n.running_var"], 0.9 * np.array([3, 4]) + 0.1 * unbiased, rtol=1e-6)


def test_a_single_value_per_channel_is_normalised_to_the_bias() -> None:
    network = norm_network().train()
    image = torch.tensor([0.5, -1.0, 9.0]).reshape(1, 3, 1, 1).requires_grad_()
    (found,) = network(image)
    found.sum().backward()
    assert found.flatten().tolist() == [5, 7]
    assert not image.grad.any()
    assert network.n.weight.grad.tolist() == [0, 0]
    assert network.n.bias.grad.tolist() == [1, 1]
    after = arrays_of(network.tensors())
    np.testing.assert_allclose(after["n.running_mean"], [0.95, 1.7], rtol=1e-6)
    np.testing.assert_allclose(after["n.running_var"], [2.7, 3.6], rtol=1e-6)


def test_the_auxiliary_head_is_computed_on_request() -> None:
    def stages(layers: Layers[T], image: T) -> Sequence[T]:
        return [image]

    def head(name: str) -> Callable[..., Any]:
        return lambda layers, stages, classes: layers.convolution(stages[-1], name, classes)

    network = TorchNetwork(
        Network("n", "N", head("head"), head("auxlayer.head"), "head", 1, {}),
        Backbone("b", "B", stages),
        2,
        auxiliary=True,
    )
    arrays = {name: values(*parameter.shape) for name, parameter in network.table.items()}
    assign(network.tensors(), arrays, "a test")
    image = values(1, 3, 4, 4)
    found = network(torch.from_numpy(image), auxiliary=True)
    for logits, name in zip(found, ("head", "auxlayer.head"), strict=True):
        expected = NumpyLayers(arrays).convolution(image, name, 2)
        np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-5)
    assert len(network(torch.from_numpy(image))) == 1


def test_dropout_is_for_training() -> None:
    network = network_of(lambda layers, x: layers.dropout(x, 0.5))
    image = torch.ones(1, 3, 40, 40)
    assert torch.equal(network(image)[0], image)
    (found,) = network.train()(image)
    assert set(found.unique().tolist()) == {0, 2}
    assert float(found.mean()) == pytest.approx(1, abs=0.1)
