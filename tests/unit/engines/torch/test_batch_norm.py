"""Batch normalisation over a group of one rank; `test_data_parallel.py` has groups of several."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch_ranks
from torch import Tensor

from semseg.engines.torch.batch_norm import BatchNorm
from semseg.engines.torch.engine import TorchEngine

CHANNELS = 5


@pytest.fixture(scope="module", autouse=True)
def _group() -> Iterator[None]:
    engine = TorchEngine()
    with torch_ranks.listening() as listener:
        place = torch_ranks.membership(0, 1, listener.getsockname()[1], listener.fileno())
        group = engine.join(place, engine.cpu())
    yield
    group.leave()


def layer(synchronised: bool, dtype: torch.dtype = torch.float64) -> BatchNorm:
    made = BatchNorm(CHANNELS, eps=1e-5, momentum=0.1, dtype=dtype)
    made.synchronised = synchronised
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        made.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return made


def results(layer: BatchNorm, x: Tensor) -> list[Tensor]:
    """Output, gradients of x, weight and bias, running mean and variance."""
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(torch.cos(3 * y.detach()))
    assert y.stride() == x.grad.stride() == x.stride()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 1


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_over_one_rank_it_is_pytorch_s_own(order: torch.memory_format) -> None:
    x = noise(3, CHANNELS, 7, 6).contiguous(memory_format=order)
    for found, expected in zip(results(layer(True), x), results(layer(False), x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_of_bfloat16_it_computes_and_keeps_statistics_in_float32() -> None:
    x = noise(3, CHANNELS, 7, 6).to(torch.bfloat16)
    found, expected = (results(layer(synchronised, torch.float32), x) for synchronised in (True, False))
    assert [tensor.dtype for tensor in found] == 2 * [torch.bfloat16] + 4 * [torch.float32]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found[4:], expected[4:], rtol=1e-5, atol=1e-5)


def test_a_large_mean_leaves_the_variance_its_digits() -> None:
    x = 1000 + noise(3, CHANNELS, 7, 6)
    synchronised = layer(True, torch.float32)
    synchronised(x.float())
    expected = 0.9 + 0.1 * x.float().double().var((0, 2, 3))
    torch.testing.assert_close(synchronised.running_var.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_single_value_is_its_own_mean(synchronised: bool) -> None:
    made, x = layer(synchronised), noise(1, CHANNELS, 1, 1)
    y, of_x, of_weight, *_, mean, variance = results(made, x)
    torch.testing.assert_close(y.flatten(), made.bias.detach())
    torch.testing.assert_close(of_x, torch.zeros_like(of_x))
    torch.testing.assert_close(of_weight, torch.zeros_like(of_weight))
    torch.testing.assert_close(mean, 0.1 * x.flatten())
    torch.testing.assert_close(variance, torch.full_like(variance, 0.9))


def test_no_values_leave_the_running_statistics_as_they_are() -> None:
    made = layer(False)
    y, of_x, of_weight, of_bias, mean, variance = results(made, noise(0, CHANNELS, 4, 4))
    assert (len(y), len(of_x)) == (0, 0)
    assert not of_weight.any()
    assert not of_bias.any()
    assert not mean.any()
    assert (variance == 1).all()
