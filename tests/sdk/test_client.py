"""`semseg.client` beside SageMaker's SDKs: it decodes what SDK 2 decodes, and both SDKs take its classes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np

from semseg.codecs.tensors import encode_probabilities
from semseg.types import Float32

ROOT = Path(__file__).parents[2]

SDK_2 = """
import io
import numpy as np
from sagemaker.amazon.common import RecordDeserializer
from sagemaker.base_deserializers import BaseDeserializer
from sagemaker.base_serializers import BaseSerializer
from semseg.client import ImageSerializer, SegmentationDeserializer

body = open("record", "rb").read()
(record,) = RecordDeserializer().deserialize(io.BytesIO(body), "application/x-recordio-protobuf")
target = record.features["target"].float32_tensor
theirs = np.array(target.values, np.float32).reshape(tuple(record.features["shape"].int32_tensor.values))
deserializer = SegmentationDeserializer()
ours = deserializer.deserialize(io.BytesIO(body), "application/x-recordio-protobuf").probabilities
assert ours.dtype == np.float32 and np.array_equal(theirs[0], ours), (theirs.shape, ours.shape)
assert isinstance(deserializer, BaseDeserializer) and isinstance(ImageSerializer(), BaseSerializer)
np.save("ours.npy", ours)
"""

SDK_3 = """
from sagemaker.core.deserializers.base import BaseDeserializer
from sagemaker.core.serializers.base import BaseSerializer
from semseg.client import ImageSerializer, SegmentationDeserializer

assert isinstance(SegmentationDeserializer(), BaseDeserializer) and isinstance(ImageSerializer(), BaseSerializer)
"""


def run(sdk: str, program: str, folder: Path) -> None:
    command = [str(ROOT / f".cache/sdk-{sdk}/bin/python"), "-c", program]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src"), "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_probabilities_are_those_that_sdk_2_decodes(tmp_path: Path) -> None:
    probabilities: Float32 = np.random.default_rng(0).dirichlet(np.ones(4), (9, 7)).astype(np.float32)
    probabilities = np.ascontiguousarray(probabilities.transpose(2, 0, 1))
    (tmp_path / "record").write_bytes(b"".join(encode_probabilities(probabilities)))
    run("v2", SDK_2, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), probabilities)


def test_sdk_3_takes_serializer_and_deserializer(tmp_path: Path) -> None:
    run("v3", SDK_3, tmp_path)
