"""What the bench `gpu` needs PyTorch itself for."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch_learners import no_dropout
from untrained import initial_arrays, specification

from semseg.engines.torch.engine import TorchEngine
from semseg.engines.torch.learner import TorchLearner
from semseg.engines.torch.transfer import Late
from semseg.types import Batch

ENGINE = TorchEngine()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def about(device: Any) -> dict[str, Any]:
    """The device and the libraries."""
    found = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),  # its own class would be imported where it is read
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": device.type,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
        }
    return found


def late(value: torch.Tensor) -> SupportsFloat:
    """A number that the device may still compute, as a learner returns it."""
    return Late(value.detach()) if value.device.type == "cuda" else float(value.detach())


def product(device: Any, precision: str, side: int) -> Callable[[], SupportsFloat]:
    """Multiplies two square matrices."""
    matrices = torch.randn((2, side, side), device=device, dtype=DTYPES[precision])
    return lambda: late((matrices[0] @ matrices[1])[0, 0].float())


def gibibyte(device: Any) -> object:
    """Takes a GiB of the device's memory, until the result is dropped."""
    return torch.empty(2**30, dtype=torch.uint8, device=device)


def forget_peak(device: Any) -> None:
    """Begins `peak_bytes` anew."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: Any) -> int:
    """The most memory that PyTorch held, with what it keeps for later use and what cuDNN's trials took."""
    return int(torch.cuda.max_memory_reserved(device))


def losses(device: Any, num_classes: int, batch: Batch, rate: float, steps: int) -> list[float]:
    """The losses of some steps of FCN on ResNet-50, from its initial values and without dropout, in float32."""
    learner = TorchLearner(specification("fcn", num_classes), device, "float32")
    learner.load(initial_arrays("fcn", "resnet-50", num_classes), "initial values")
    with no_dropout():
        return [float(learner.train_step(batch, rate, seed)) for seed in range(steps)]


def updates(device: Any, optimizer: str) -> tuple[dict[str, list[np.ndarray[Any, Any]]], dict[str, Any]]:
    """The tensors of `golden` after each update, on this device, and the optimizer's states after the last, by name."""
    import golden

    from semseg.engines.torch.updater import Updater
    from semseg.networks.parameters import Initializer, Parameter

    table = {
        name: Parameter(shape, Initializer.ZEROS, golden.HEADS_RATE if name.startswith("head") else 1.0, True)
        for name, shape in golden.TENSORS.items()
    }
    start = golden.first_values()
    tensors = {name: torch.from_numpy(array).to(device).requires_grad_() for name, array in start.items()}
    updater = Updater(golden.optimizer_settings(optimizer), tensors, table)
    history: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in tensors}
    for rate, drawn in zip(golden.RATES, golden.gradients(), strict=True):
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(drawn[name]).to(device) / golden.IMAGES
        updater.update(rate, golden.IMAGES)
        for name, tensor in tensors.items():
            history[name].append(tensor.detach().cpu().numpy().copy())
    return history, {name: array for name, array in updater.read().items() if name != "updates"}
