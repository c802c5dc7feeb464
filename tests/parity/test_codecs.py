"""RecordIO and palettes against MXNet and GluonCV."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mxnet_records import MAGIC, as_mxnet_writes

from semseg.codecs.palettes import palette
from semseg.codecs.recordio import frame, read_records
from semseg.codecs.tensors import encode_probabilities


@pytest.fixture(scope="module")
def recordio(mx: Any) -> Any:
    return mx.recordio


def read_all(stream: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(stream).read, "train_0", 10_000_000))


@pytest.mark.req("R18", "R41")
@pytest.mark.parametrize(
    ("payload", "stream"),
    [
        (b"", "0a23d7ce 00000000"),
        (b"a", "0a23d7ce 01000000 61000000"),
        (b"hello", "0a23d7ce 05000000 68656c6c 6f000000"),
        (b"AAAA" + MAGIC + b"BB", "0a23d7ce 04000020 41414141 0a23d7ce 02000060 42420000"),
        (MAGIC, "0a23d7ce 00000020 0a23d7ce 00000060"),
        (b"A" + MAGIC + b"BBB", "0a23d7ce 08000000 410a23d7 ce424242"),
        (MAGIC + MAGIC + b"Z", "0a23d7ce 00000020 0a23d7ce 00000040 0a23d7ce 01000060 5a000000"),
    ],
    ids=["empty", "padded", "two words", "split", "nothing but magic", "unaligned", "three parts"],
)
def test_the_bytes_that_mxnet_writes_are_read(recordio: Any, tmp_path: Path, payload: bytes, stream: str) -> None:
    written = recordio.MXRecordIO(str(tmp_path / "oracle.rec"), "w")
    written.write(payload)
    written.close()
    assert (tmp_path / "oracle.rec").read_bytes() == bytes.fromhex(stream) == as_mxnet_writes(payload)
    assert read_all(bytes.fromhex(stream)) == [payload]


def test_long_streams_of_mxnet_are_read(recordio: Any, tmp_path: Path) -> None:
    expected = [bytes([number]) * number + MAGIC * (number % 4) + b"end" for number in range(200)]
    expected.append(bytes(range(256)) * 10_000 + MAGIC * 3)
    written = recordio.MXRecordIO(str(tmp_path / "oracle.rec"), "w")
    for payload in expected:
        written.write(payload)
    written.close()
    stream = (tmp_path / "oracle.rec").read_bytes()
    assert read_all(stream) == expected
    assert stream == b"".join(map(as_mxnet_writes, expected))


def test_mxnet_reads_what_is_framed_here(recordio: Any, tmp_path: Path) -> None:
    expected = [b"", b"a", b"AAAA" + MAGIC + b"BB", MAGIC]
    path = tmp_path / "written.rec"
    path.write_bytes(b"".join(b"".join(frame([payload])) for payload in expected))
    reader = recordio.MXRecordIO(str(path), "r")
    assert [reader.read() for _ in expected] == expected
    assert reader.read() is None
    reader.close()


@pytest.mark.req("R52", "R53")
def test_the_notebook_of_aws_reads_the_record(recordio: Any, record_class: Any, tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (6, 5)).astype(np.float32).transpose(2, 0, 1)
    file = tmp_path / "results.rec"
    file.write_bytes(b"".join(encode_probabilities(probabilities)))

    reader = recordio.MXRecordIO(str(file), "r")
    record = record_class()
    record.ParseFromString(reader.read())
    reader.close()

    values = list(record.features["target"].float32_tensor.values)
    shape = list(record.features["shape"].int32_tensor.values)
    assert shape == [1, 4, 6, 5]
    np.testing.assert_array_equal(np.reshape(np.array(values), shape)[0], probabilities)


@pytest.mark.parametrize(
    ("name", "classes"), [("voc", range(256)), ("ade20k", range(150)), ("cityscapes", [*range(10), *range(11, 19)])]
)
def test_the_colours_of_a_class_are_those_that_gluoncv_shows_it_in(mx: Any, name: str, classes: list[int]) -> None:
    """All colours agree except Cityscapes' sky, which is (0, 130, 180) in GluonCV."""
    from gluoncv.utils.viz import segmentation

    known_as = {"voc": "pascal_voc", "ade20k": "ade20k", "cityscapes": "citys"}[name]
    ids = np.array([list(classes)], np.uint8)
    expected = np.array(segmentation.get_color_pallete(ids.astype(np.int64), known_as).convert("RGB"))
    np.testing.assert_array_equal(palette(name)[ids], expected)
