"""What MXNet computes of fixed inputs, stored so that tests of other engines need no MXNet.

`tests/parity/torch/test_golden.py` computes it anew and compares; `python tests/support/make_golden.py` writes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semseg.codecs.params import read_params
from semseg.engines.protocols import OptimizerSettings
from semseg.types import IGNORED, Arrays, Batch, Float32

PATH = Path(__file__).parents[1] / "stored/golden.params"
CLASSES = 5

# Logits: of random_arrays(algorithm, backbone, CLASSES), both heads', by `logits_name`

SIZES = [(33, 47), (64, 64), (9, 1)]


def logits_name(algorithm: str, backbone: str, size: tuple[int, int], head: str) -> str:
    """The name of a head's stored logits; head: `main` or `auxiliary`."""
    return f"logits/{algorithm}/{backbone}/{size[0]}x{size[1]}/{head}"


def normalised_image(height: int, width: int) -> Float32:
    """An image as networks take it: (1, 3, height, width)."""
    return np.random.default_rng(height).normal(size=(1, 3, height, width)).astype(np.float32)


# Updates: the tensors after each of 8, by `update_name`

RATES = (0.01, 0.05, 0.1, 0.08, 0.06, 0.04, 0.02, 0.001)
"""The learning rate of each update."""

HEADS_RATE = 10.0
IMAGES = 4
TENSORS: dict[str, tuple[int, ...]] = {"layer.weight": (3, 2, 3, 3), "head.bias": (5,)}
"""The second has HEADS_RATE times the learning rate."""


def optimizer_settings(name: str) -> OptimizerSettings:
    """An optimizer with settings that are not the defaults."""
    return OptimizerSettings(name, momentum=0.8, weight_decay=0.01, gamma1=0.7, gamma2=0.6)


def update_name(optimizer: str, tensor: str) -> str:
    """The name of a tensor's stored values: (8, *shape)."""
    return f"update/{optimizer}/{tensor}"


def state_name(optimizer: str, state: str) -> str:
    """The name of a stored state after the last update; state: `<tensor>/<number>`."""
    return f"state/{optimizer}/{state}"


def first_values() -> Arrays:
    """The tensors before the first update."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in TENSORS.items()}


def gradients() -> list[Arrays]:
    """The gradients of the sum over IMAGES images for each update; of each tensor some are 0, and some are tiny."""
    rng = np.random.default_rng(2)
    found = []
    for _ in RATES:
        drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in TENSORS.items()}
        for array in drawn.values():
            array.flat[0], array.flat[1] = 0, 1e-6 * array.flat[1]
        found.append(drawn)
    return found


# Training: the losses of FCN with ResNet-50 and CLASSES classes, in float64 and without dropout, with sgd

TRAINING = "training/losses"
STEPS = 20
STEP_RATE = 1e-6


def training_batch() -> Batch:
    """Two images, half of whose pixels are ignored."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, (2, 32, 32)).astype(np.uint8)
    labels[:, ::2] = IGNORED
    return Batch(rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8), labels)


def stored() -> Arrays:
    """All that is stored, by name."""
    return dict(read_params(PATH))
