"""Networks of a single convolution, for tests of what runs networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx

from semseg.artifact import model_dir
from semseg.codecs.params import write_params
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Head, Network
from semseg.networks.identify import identify
from semseg.networks.onnx import onnx_model
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays

NOTHING = Backbone("nothing", "Nothing", lambda layers, image: [image])
SINGLE = Network(
    "single",
    "Single",
    head=lambda layers, stages, num_classes: layers.convolution(stages[-1], "c", num_classes),
    auxiliary=None,
    classifier="c",
    stride=1,
    bytes_per_pixel={"openvino": 100},
)
"""One convolution of the image itself, 1 x 1, with a bias."""


def doubling(channels: int = 3) -> bytes:
    """The ONNX model that doubles its input, channel by channel."""
    weight = 2 * np.eye(channels, 3, dtype=np.float32)[..., None, None]
    arrays = {"c.weight": weight, "c.bias": np.zeros(channels, np.float32)}
    content: bytes = model_of(SINGLE.head, channels, arrays).SerializeToString()
    return content


def model_of(head: Head, num_classes: int, arrays: Arrays) -> onnx.ModelProto:
    """The ONNX model of a network that is a head on the image itself, without metadata."""
    return onnx_model(replace(SINGLE, head=head), NOTHING, num_classes, arrays, "f")


@contextmanager
def known() -> Iterator[None]:
    """While it lasts a model directory may hold the network SINGLE, as if it were declared with the others."""
    more = partial(identify, networks=(*NETWORKS, SINGLE), backbones=(*BACKBONES, NOTHING))
    with patch.object(model_dir, "identify", more):
        yield


def write_small_model(directory: Path, num_classes: int = 3) -> Path:
    """Makes a directory the artifact of a SINGLE that has learned nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    write_params(directory / "model_best.params", initial_values(parameter_table(SINGLE, NOTHING, num_classes), seed=0))
    return directory
