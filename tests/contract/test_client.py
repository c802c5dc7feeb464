"""`semseg.client` and a real `serve` process; the README's blocks about it run."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faulty_server
import numpy as np
import pytest
from PIL import Image
from readme import blocks
from serve_process import CLASSES, HEIGHT, WIDTH, Server, encode, serving, wait_until

from semseg.client import Client, Segmentation
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette
from semseg.data.shapes import write_shapes
from semseg.errors import BusyError, ImageError, NotAcceptableError, TooLargeError
from semseg.types import Float32, UInt8


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def as_in_the_notebook(record_class: Any, body: bytes) -> Float32:
    """The decoding of AWS's notebook, which is that of SageMaker's SDK 2 too: (1, C, H, W), squeezed."""
    magic, length = struct.unpack("<II", body[:8])
    assert magic == 0xCED7230A
    record = record_class()
    record.ParseFromString(body[8 : 8 + length])
    values = np.array(list(record.features["target"].float32_tensor.values), np.float32)
    shape = list(record.features["shape"].int32_tensor.values)
    assert shape == [1, CLASSES, HEIGHT, WIDTH]
    return np.squeeze(np.reshape(values, shape), axis=0)


@pytest.mark.req("R52", "R53")
def test_the_probabilities_are_those_that_aws_s_notebook_decodes(
    server: Server, client: Client, image: UInt8, record_class: Any
) -> None:
    data = encode(image)
    status, _, body = server.invoke(data, "image/png")
    assert status == 200
    found = client.predict(data)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.probabilities, as_in_the_notebook(record_class, body))


def test_all_responses_agree(server: Server, client: Client, image: UInt8) -> None:
    whole = client.predict(image)
    with Image.open(io.BytesIO(server.invoke(encode(image), Accept="image/png")[2])) as mask:
        np.testing.assert_array_equal(whole.mask, np.asarray(mask))
    np.testing.assert_array_equal(whole.overlay(0.5), overlay(image, whole.mask, palette("voc")))
    for accept in ("image/png", "image/png; palette=voc", "application/json; rle=true"):
        np.testing.assert_array_equal(client.predict(image, accept=accept).mask, whole.mask)
    for values in ("probabilities", "classes", "confidence"):
        for form in ("application/x-recordio-protobuf", "application/x-npy"):
            found = client.predict(image, accept=f"{form}; values={values}")
            np.testing.assert_array_equal(found.mask, whole.mask)
            if values == "probabilities":
                np.testing.assert_array_equal(found.probabilities, whole.probabilities)
            if values == "confidence":
                np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-6)
    for dtype, error in (("float16", 1e-3), ("uint8", 2e-3)):
        found = client.predict(image, accept=f"application/x-npy; dtype={dtype}")
        np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=error)
    summary = client.predict(image, accept="application/json").summary
    assert [entry["pixels"] for entry in summary["classes"]] == np.bincount(
        whole.mask.ravel(), minlength=CLASSES
    ).tolist()


def test_refusals_are_the_server_s_in_words(client: Client, image: UInt8) -> None:
    with pytest.raises(ImageError, match="This is a GIF file, neither JPEG nor PNG"):
        client.predict(b"GIF89a")
    with pytest.raises(NotAcceptableError, match="palette of image/png is 'none'"):
        client.predict(image, accept="image/png; palette=none")
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)  # beyond the limit of bodies, 1 MB
    with pytest.raises(TooLargeError, match=r"larger than the limit of 1,048,576 bytes.*SAGEMAKER_MAX_PAYLOAD_IN_MB"):
        client.predict(noise)
    with pytest.raises(TooLargeError, match="more than the limit"):
        client.predict(np.zeros((240, 240, 3), np.uint8))  # probabilities beyond the limit of responses, 1 MB


def test_an_image_beyond_the_server_s_limits_is_answered_whole(server: Server) -> None:
    """The limit is 60,000 pixels; the network, 1 x 1 convolutions, sees the same in tiles."""
    large = np.random.default_rng(0).integers(0, 256, (300, 330, 3), np.uint8)
    with Client(f"http://127.0.0.1:{server.port}", max_request=60_000) as client:
        found = client.predict(large, accept="image/png", oversize="tile")
    with Client(f"http://127.0.0.1:{server.port}") as client:
        halves = [client.predict(half, accept="image/png").mask for half in (large[:150], large[150:])]
    np.testing.assert_array_equal(found.mask, np.concatenate(halves))


def test_a_busy_server_is_asked_until_it_serves(tmp_path: Path, image: UInt8) -> None:
    """One image is segmented, no other may wait."""
    with serving(tmp_path, tmp_path, faulty_server.__file__, "waits", str(tmp_path), SEMSEG_QUEUE="0") as server:
        address = f"http://127.0.0.1:{server.port}"
        with Client(address) as client, ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.predict, image)
            wait_until((tmp_path / "seen").exists)
            with (
                Client(address, timeout=0.4) as hasty,
                pytest.raises(BusyError, match=r"1 images are being.*tried for 0\.4 s"),
            ):
                hasty.predict(image)
            second = pool.submit(client.predict, image[:, :40])
            (tmp_path / "go").touch()
            assert first.result(60).size == (HEIGHT, WIDTH)
            assert second.result(60).size == (HEIGHT, 40)


def test_many_images(client: Client, image: UInt8) -> None:
    images = [image[number:] for number in range(8)]
    found = list(client.map(images, accept="image/png"))
    assert all(isinstance(each, Segmentation) for each in found)
    assert [each.size for each in found] == [(HEIGHT - number, WIDTH) for number in range(8)]


def test_the_readmes_block_runs(server: Server, tmp_path: Path) -> None:
    (block,) = (block for block in blocks("python") if "semseg.client" in block)
    write_shapes(tmp_path / "shapes", train=1, validation=3, size=(48, 40), seed=1)
    program = block.replace("localhost:18080", f"127.0.0.1:{server.port}")
    assert program != block
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "overlay.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (48, 40))
    masks = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert masks == ["0000.png", "0001.png", "0002.png"]
