"""A model directory of a few kilobytes, whose small network separates dark pixels from bright ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from semseg.artifact import model_dir
from semseg.codecs.params import write_params
from semseg.networks.definitions import Backbone, Network
from semseg.networks.identify import identify
from semseg.networks.layers import Layers, T
from semseg.types import Arrays

DARK, BRIGHT = 0, 1
"""The first two classes; the others are never predicted."""

CHANNELS, INNER = 8, 16


def _stack(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    x = layers.relu(layers.convolution(stages[-1], "first", CHANNELS))
    for number in range(INNER):
        x = layers.relu(layers.convolution(x, f"inner.{number}", CHANNELS))
    return layers.convolution(x, "last", num_classes)


PIXELS = Backbone("pixels", "Pixels", lambda layers, image: [image])
STACK = Network("stack", "Stack", _stack, None, "last", stride=1, bytes_per_pixel={"openvino": 100, "torch": 100})
"""A chain of 1 x 1 convolutions on the pixels."""


def stack_arrays(num_classes: int = 3, seed: int = 0, outliers: Collection[int] = ()) -> Arrays:
    """Parameters with which half of the channels respond to dark pixels and half to bright ones; seed: of small noise.

    outliers: numbers of inner convolutions that get a channel of constant 10,000, which the next one gives no weight:
    f32 is not affected, int8 loses all other channels.
    """
    rng = np.random.default_rng(seed)
    sign = np.repeat([-1.0, 1.0], CHANNELS // 2)
    weights = {"first": np.repeat(sign[:, None] / 3, 3, axis=1), "last": np.zeros((num_classes, CHANNELS))}
    weights["last"][DARK], weights["last"][BRIGHT] = sign < 0, sign > 0
    weights |= {f"inner.{number}": np.eye(CHANNELS) + rng.normal(0, 0.02, (CHANNELS,) * 2) for number in range(INNER)}
    biases = {name: np.zeros(len(weight)) for name, weight in weights.items()}
    biases["last"][2:] = -1e6
    for number in outliers:
        biases[f"inner.{number}"][0] = 10_000
        weights[f"inner.{number + 1}"][:, 0] = 0
    arrays = {f"{name}.weight": weight[..., None, None] for name, weight in weights.items()}
    arrays |= {f"{name}.bias": bias for name, bias in biases.items()}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def banded_arrays(num_classes: int) -> Arrays:
    """Parameters with which class 0 is predicted for the darkest pixels, the last one for the brightest.

    The score of a class with the centre c at the brightness x is 2 c x - c * c, which is the greatest at the centre
    nearest to x.
    """
    arrays = stack_arrays(num_classes)
    centres = np.linspace(-1, 1, num_classes, dtype=np.float32)
    sign = np.repeat([-1.0, 1.0], CHANNELS // 2)
    arrays["last.weight"] = (2 * centres[:, None] * sign / (CHANNELS // 2))[..., None, None].astype(np.float32)
    arrays["last.bias"] = -(centres**2)
    return arrays


def write_small_model(
    directory: Path, num_classes: int = 3, seed: int = 0, outliers: Collection[int] = (), banded: bool = False
) -> Path:
    """Writes such a network to a model directory, which can be read within `known`."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays = banded_arrays(num_classes) if banded else stack_arrays(num_classes, seed, outliers)
    write_params(directory / "model_best.params", arrays)
    return directory


def packed(directory: Path) -> bytes:
    """A model.tar.gz of all files of such a directory."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as members:
        members.add(directory, ".")
    return archive.getvalue()


@contextmanager
def known(networks: Collection[Network] = (STACK,), backbones: Collection[Backbone] = (PIXELS,)) -> Iterator[None]:
    """While it lasts a model directory may hold these networks, as if they were declared, and no others."""
    with patch.object(model_dir, "identify", partial(identify, networks=networks, backbones=backbones)):
        yield
