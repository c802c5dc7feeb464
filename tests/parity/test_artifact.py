from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import gluon_model
from untrained import ALGORITHMS, ENCODERS

from semseg.artifact.model_dir import BEST, LAST, describe
from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import networks, runtime


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64"])
def test_arrays_are_those_mxnet_saved(mx: Any, tmp_path: Path, dtype: str) -> None:
    expected = np.arange(-6, 18).astype(dtype).reshape(2, 3, 4)
    path = tmp_path / "a.params"
    mx.nd.save(str(path), {"arg:w": runtime.to_device(expected, mx.cpu()), "aux:mean": mx.nd.ones((3,))})
    found = read_params(path)
    assert found["w"].dtype == dtype
    np.testing.assert_array_equal(found["w"], expected)
    np.testing.assert_array_equal(found["mean"], np.ones(3))


@pytest.mark.parametrize("oldest", [False, True])
def test_the_layouts_before_2018_are_read_as_mxnet_reads_them(mx: Any, tmp_path: Path, oldest: bool) -> None:
    shape = struct.pack("<III", 2, 2, 3) if oldest else struct.pack("<Iiqq", 0xF993FAC8, 2, 2, 3)
    array = shape + struct.pack("<iii", 1, 0, 0) + np.arange(6, dtype=np.float32).tobytes()
    path = tmp_path / "old.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"w")
    np.testing.assert_array_equal(read_params(path)["w"], mx.nd.load(str(path))["w"].asnumpy())


@pytest.mark.req("R4", "R6")
@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "backbone"), [*((name, ENCODERS[0]) for name in ALGORITHMS), ("fcn", ENCODERS[1])]
)
def test_files_of_gluoncv_describe_themselves(
    mx: Any, tmp_path: Path, algorithm: str, backbone: str, aux: bool
) -> None:
    """Names and shapes of all six are compared in test_networks.py."""
    model = gluon_model(algorithm, backbone, 3, mx.cpu(), aux=aux)
    model.save_parameters(str(tmp_path / LAST))
    found = describe(tmp_path)
    assert (found.network.name, found.backbone.name, found.num_classes, found.aux) == (algorithm, backbone, 3, aux)
    assert found.params == tmp_path / LAST
    arrays = read_params(found.params)
    for name, parameter in networks.parameters(model).items():
        np.testing.assert_array_equal(arrays[name], parameter.data().asnumpy())


def test_the_best_file_wins(mx: Any, tmp_path: Path) -> None:
    for name, classes in ((LAST, 3), (BEST, 4)):
        gluon_model("fcn", "resnet-50", classes, mx.cpu()).save_parameters(str(tmp_path / name))
    assert describe(tmp_path).num_classes == 4


def test_what_is_written_is_what_mxnet_writes_byte_by_byte(mx: Any, tmp_path: Path) -> None:
    arrays = {dtype: np.arange(-6, 18).astype(dtype).reshape(2, 3, 4) for dtype in ("float16", "float32", "uint8")}
    write_params(tmp_path / "ours", arrays)
    mx.nd.save(str(tmp_path / "theirs"), {name: runtime.to_device(array, mx.cpu()) for name, array in arrays.items()})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
