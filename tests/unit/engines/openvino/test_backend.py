from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_networks import SINGLE, doubling

from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.errors import ArtifactError
from semseg.types import Float32


def noise(*size: int) -> Float32:
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("size", [(1, 3, 1, 1), (1, 3, 5, 9), (4, 3, 2, 30)])
def test_any_number_of_images_of_any_size(size: tuple[int, int, int, int]) -> None:
    images = noise(*size)
    logits = OpenVinoBackend(doubling(), SINGLE, 3, "f32", cores=1).logits(images)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, 2 * images)


def test_logits_stay_when_the_next_image_comes() -> None:
    backend = OpenVinoBackend(doubling(), SINGLE, 3, "f32", cores=1)
    first = backend.logits(noise(1, 3, 8, 8))
    backend.logits(np.zeros((1, 3, 8, 8), np.float32))
    np.testing.assert_array_equal(first, 2 * noise(1, 3, 8, 8))


def test_images_need_not_be_contiguous() -> None:
    images = noise(1, 8, 8, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(OpenVinoBackend(doubling(), SINGLE, 3, "f32", cores=1).logits(images), 2 * images)


def test_a_file_is_as_good_as_its_content(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(doubling())
    backend = OpenVinoBackend(tmp_path / "model.onnx", SINGLE, 3, "f32", cores=1)
    np.testing.assert_array_equal(backend.logits(noise(1, 3, 8, 8)), 2 * noise(1, 3, 8, 8))


def test_what_is_no_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(doubling()[:-50])
    with pytest.raises(ArtifactError, match=f"OpenVINO cannot run {path}") as caught:
        OpenVinoBackend(path, SINGLE, 3, "f32", cores=1)
    assert len(str(caught.value)) < 1024


def test_a_network_of_other_classes_is_an_error() -> None:
    with pytest.raises(ArtifactError, match="is not a network of 4 classes"):
        OpenVinoBackend(doubling(), SINGLE, 4, "f32", cores=1)


def test_signals_are_heard_when_networks_have_come_and_gone(tmp_path: Path) -> None:
    """OpenVINO gives a thread a stack for signals. In a process of its own: the signal ended it once."""
    path = tmp_path / "model.onnx"
    path.write_bytes(doubling())
    script = f"""
import os, pathlib, signal
from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.networks.definitions import NETWORKS
networks = [OpenVinoBackend(pathlib.Path({str(path)!r}), NETWORKS[0], 3, "f32", 1) for _ in range(2)]
del networks[0]
del networks[0]
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")
