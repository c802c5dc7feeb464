"""Networks of a single convolution, for tests of code that runs networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from semseg.networks.definitions import Backbone, Head, Network
from semseg.networks.onnx import onnx_model
from semseg.types import Arrays

NOTHING = Backbone("nothing", "Nothing", lambda layers, image: [image])
SINGLE = Network(
    "single",
    "Single",
    head=lambda layers, stages, num_classes: layers.convolution(stages[-1], "c", num_classes),
    auxiliary=None,
    classifier="c",
    stride=1,
    bytes_per_pixel={"openvino": 100, "torch": 100},
)
"""One convolution of the image itself, 1 x 1, with a bias."""


def doubling(channels: int = 3) -> bytes:
    """The ONNX model that doubles its input, channel by channel."""
    weight = 2 * np.eye(channels, 3, dtype=np.float32)[..., None, None]
    arrays = {"c.weight": weight, "c.bias": np.zeros(channels, np.float32)}
    content: bytes = model_of(SINGLE.head, channels, arrays).SerializeToString()
    return content


def model_of(head: Head, num_classes: int, arrays: Arrays) -> onnx.ModelProto:
    """The ONNX model, without metadata, of a network whose head runs directly on the image."""
    return onnx_model(replace(SINGLE, head=head), NOTHING, num_classes, arrays, "f")
