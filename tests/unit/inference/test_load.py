from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_model
from fake_backend import OnHost
from onnx import numpy_helper
from small_model import STACK, stack_arrays

from semseg import machine
from semseg.artifact.model_dir import describe, write_classes
from semseg.codecs.params import write_params
from semseg.engines.openvino import backend as openvino
from semseg.engines.openvino import engine as openvino_engine
from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.engines.openvino.engine import OpenVinoEngine
from semseg.engines.protocols import Device
from semseg.errors import ArtifactError, UserError
from semseg.exporting.onnx_model import write_onnx
from semseg.inference import load
from semseg.inference.load import load_predictor
from semseg.machine import has_bf16, is_bf16_faster
from semseg.types import Classes, Float32


@pytest.mark.req("R56")
@pytest.mark.parametrize("backend", [pytest.param("mxnet", marks=pytest.mark.needs("mxnet")), "openvino"])
def test_a_model_directory_becomes_a_predictor(model_dir: Path, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = load_predictor(model_dir, backend, "f32", max_tile_pixels=70_000)
    assert model.predictor.num_classes == 3
    probabilities = model.predictor.predict(np.zeros((20, 31, 3), np.uint8)).probabilities()
    assert probabilities.shape == (3, 20, 31)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    told = [f"OpenVINO computes in f32 on {machine.usable_cores()} cores."] if backend == "openvino" else []
    assert caplog.messages == [
        "Number of GPUs being used: 0",
        *told,
        f"Loading weights from {model_dir / 'model_best.params'}",
        "Images of more than 70000 pixels are cut into tiles.",
    ]


def test_free_memory_sets_the_size_of_tiles_and_the_room_for_requests(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "free_memory", lambda: 10**9)
    each = STACK.bytes_per_pixel["openvino"]
    model = load_predictor(small_dir, "openvino", "f32")
    assert 0 <= 500_000_000 - model.predictor.max_tile_pixels * each < each
    assert model.memory == 10**9 - model.predictor.max_tile_pixels * each
    small, large = (load_predictor(small_dir, "openvino", "f32", pixels) for pixels in (10**6, 10**8))
    assert (small.predictor.max_tile_pixels, small.memory) == (10**6, 10**9 - 10**6 * each)
    assert (large.predictor.max_tile_pixels, large.memory) == (10**8, 500_000_000)


def test_what_the_directory_says_of_the_model_comes_with_it(small_dir: Path) -> None:
    assert load_predictor(small_dir).description.classes == Classes.unknown(3)
    write_classes(small_dir, Classes(("sky", "road", "tree"), (0, None, 0x2CA02C)))
    assert load_predictor(small_dir).description == describe(small_dir)
    assert load_predictor(small_dir).description.classes == Classes(("sky", "road", "tree"), (0, None, 0x2CA02C))


def test_an_empty_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=tmp_path.name):
        load_predictor(tmp_path)


def kind_of_backend(model: load.LoadedModel) -> type:
    return type(model.predictor._backend)


def test_the_memory_of_a_gpu_sets_the_size_of_tiles_and_the_host_s_the_room_for_requests(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No machine with a GPU runs this: an engine with numbers stands in for it."""
    monkeypatch.setattr(load, "free_memory", lambda: 8 << 30)
    monkeypatch.setattr(load, "serving_engine", lambda *_: (WithGpu(), Device("GPU", 1)))
    each = OnGpu.bytes_per_pixel
    model = load_predictor(small_dir)
    assert 0 <= (5 << 30) - model.predictor.max_tile_pixels * each < each
    assert model.memory > 7 << 30
    shared = load_predictor(small_dir, processes=2)
    assert shared.predictor.max_tile_pixels == model.predictor.max_tile_pixels // 2
    assert load_predictor(small_dir, max_tile_pixels=70_000).predictor.max_tile_pixels == 70_000


class OnGpu(OnHost):
    """A network on a GPU of which 10 GB are free."""

    def logits(self, images: Float32) -> Float32:
        return images[:, :, ::8, ::8]

    def device_memory(self) -> int:
        return 10 << 30


class WithGpu(OpenVinoEngine):
    """An engine whose networks are on a GPU."""

    def backend(self, *_: object) -> OnGpu:
        return OnGpu()


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_mxnet_refuses_a_precision_it_does_not_know(model_dir: Path, precision: str) -> None:
    with pytest.raises(UserError, match=f"SEMSEG_PRECISION is {precision}, but MXNet"):
        load_predictor(model_dir, "mxnet", precision)


def test_int8_needs_a_model_of_that_precision(small_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{small_dir} has no int8 model.*semseg quantize"):
        load_predictor(small_dir, precision="int8")


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_an_int8_model_that_passed_is_used(quantized: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_predictor(quantized, precision=precision)
    told = f"OpenVINO computes in int8 on {machine.usable_cores()} cores: mIOU 0.6667 in int8, 0.6667 in f32, on 6 ima"
    assert any(message.startswith(told) for message in caplog.messages)
    assert caplog.messages[-2] == f"Loading weights from {quantized / 'model_int8.onnx'}"


@pytest.mark.parametrize(
    "precision", ["f32", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16"))]
)
def test_another_precision_can_be_chosen(quantized: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_predictor(quantized, precision=precision)
    assert f"computes in {precision} on" in caplog.text
    assert "int8" not in caplog.text


def with_gate(path: Path, **metadata: str) -> bytes:
    """The file with other metadata; an empty text removes it."""
    model = onnx.load(path)
    values = {entry.key: entry.value for entry in model.metadata_props} | metadata
    onnx.helper.set_model_props(model, {key: value for key, value in values.items() if value})
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"mIOU_int8": "0.1"}, "did not pass its gate: mIOU 0.1000 in int8, 0.6667 in f32"),
        ({"mIOU_int8": ""}, "did not pass its gate: it has no mIOU"),
        ({"params_sha256": "ab" * 32}, "was made from other parameters"),
        (None, "has the model field 13"),
    ],
)
def test_any_other_int8_model_is_ignored_with_a_warning_or_refused(
    quantized: Path,
    tmp_path: Path,
    metadata: dict[str, str] | None,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "model_best.params").symlink_to(quantized / "model_best.params")
    content = with_gate(quantized / "model_int8.onnx", **metadata) if metadata else b"not ONNX"
    (tmp_path / "model_int8.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=fault):
        load_predictor(tmp_path, precision="int8")
    with caplog.at_level(logging.INFO):
        load_predictor(tmp_path)
    assert f"model_int8.onnx is ignored. {tmp_path / 'model_int8.onnx'} {fault}" in caplog.text
    assert f"computes in {'bf16' if is_bf16_faster() else 'f32'} on" in caplog.text


def test_an_f32_model_in_the_place_of_an_int8_one_is_refused(small_dir: Path) -> None:
    write_onnx(describe(small_dir), small_dir / "model_int8.onnx")
    with pytest.raises(ArtifactError, match="it has no mIOU"):
        load_predictor(small_dir, precision="int8")


class Compiled(OnHost):
    """Stands in for a network that is compiled, which not every CPU can be for bf16."""

    def __init__(self, model: Path | bytes, precision: str, **_: object) -> None:
        self.precision = precision


@pytest.mark.parametrize(
    ("bf16", "faster", "told", "expected"),
    [
        (True, True, "auto", "bf16"),
        (True, False, "auto", "f32"),
        (True, False, "bf16", "bf16"),
        (False, False, "auto", "f32"),
    ],
)
def test_precision_follows_the_cpu(
    small_dir: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, faster: bool, told: str, expected: str
) -> None:
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: bf16)
    monkeypatch.setattr(openvino_engine, "is_bf16_faster", lambda: faster)
    monkeypatch.setattr(openvino, "OpenVinoBackend", Compiled)
    found = load_predictor(small_dir, precision=told).predictor._backend
    assert isinstance(found, Compiled)
    assert found.precision == expected


def test_bf16_on_a_cpu_without_it_is_the_user_s_error(small_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "has_bf16", lambda: False)
    with pytest.raises(
        UserError, match=r"SEMSEG_PRECISION is bf16, but this CPU .* Set SEMSEG_PRECISION to auto or f32"
    ):
        load_predictor(small_dir, precision="bf16")


def test_a_model_onnx_of_the_same_parameters_is_used(small_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_onnx(describe(small_dir), small_dir / "model.onnx")
    with caplog.at_level(logging.INFO):
        load_predictor(small_dir)
    assert f"Loading weights from {small_dir / 'model.onnx'}" in caplog.messages
    assert not any(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("content", [b"", b"not ONNX", None])
def test_any_other_model_onnx_is_ignored_with_a_warning(
    small_dir: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        (small_dir / "model.onnx").mkdir()
    else:
        (small_dir / "model.onnx").write_bytes(content)
    with caplog.at_level(logging.INFO):
        load_predictor(small_dir)
    assert f"model.onnx is ignored, model_best.params is converted instead. {small_dir / 'model.onnx'}" in caplog.text
    assert caplog.messages[-2] == f"Loading weights from {small_dir / 'model_best.params'}"


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_to_serve_an_onnx_file_neither_mxnet_nor_onnx_is_imported(quantized: Path, precision: str) -> None:
    write_onnx(describe(quantized), quantized / "model.onnx")
    script = f"""if True:
        import sys, pathlib, semseg.serving.processes as processes
        sys.path.append({str(Path(small_model.__file__).parent)!r})
        from small_model import known
        with known():
            assert processes.load_predictor(pathlib.Path({str(quantized)!r}), "auto", {precision!r})
        sys.exit(bool({{"mxnet", "gluoncv", "onnx", "onnxruntime"}} & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", script], timeout=300, check=False).returncode == 0


def probabilities(directory: Path, cache: Path | None) -> Float32:
    """Of one image, in f32."""
    image = np.random.default_rng(0).integers(0, 256, (40, 57, 3), dtype=np.uint8)
    return load_predictor(directory, "openvino", "f32", cache_dir=cache).predictor.predict(image).probabilities()


def blobs(folder: Path) -> dict[str, int]:
    """What OpenVINO put into its cache, with the times when."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.blob")}


def test_what_openvino_compiled_is_kept_for_the_next_start(small_dir: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new/cache"
    write_onnx(describe(small_dir), small_dir / "model.onnx")
    first = probabilities(small_dir, cache)
    kept = blobs(cache)
    assert len(kept) == 1
    assert cache.stat().st_mode & 0o777 == 0o700
    np.testing.assert_array_equal(probabilities(small_dir, cache), first)
    np.testing.assert_array_equal(probabilities(small_dir, None), first)
    assert blobs(cache) == kept


def test_a_model_in_the_same_place_with_other_parameters_is_compiled_anew(small_dir: Path, tmp_path: Path) -> None:
    path, cache = small_dir / "model.onnx", tmp_path / "cache"
    write_onnx(describe(small_dir), path)
    before = probabilities(small_dir, cache)
    kept, times = blobs(cache), path.stat()
    params = small_dir / "model_best.params"
    params.unlink()
    write_params(params, stack_arrays(seed=1))
    write_onnx(describe(small_dir), path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = probabilities(small_dir, cache)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, probabilities(small_dir, None))
    assert len(blobs(cache)) > len(kept)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2], lambda _: b"x"])
def test_a_damaged_cache_is_no_fault(small_dir: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_onnx(describe(small_dir), small_dir / "model.onnx")
    expected = probabilities(small_dir, tmp_path / "cache")
    (blob,) = (tmp_path / "cache").glob("*.blob")
    content = damage(blob.read_bytes())
    blob.unlink()
    blob.write_bytes(content)
    np.testing.assert_array_equal(probabilities(small_dir, tmp_path / "cache"), expected)


def test_a_folder_that_others_can_write_is_no_cache(
    small_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    probabilities(small_dir, tmp_path)
    assert f"SEMSEG_CACHE_DIR is ignored: {tmp_path} is not a writable folder of this user alone." in caplog.messages
    assert not blobs(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("first.weight", np.nan), ("inner.3.weight", np.inf), ("last.bias", np.nan)]
)
def test_parameters_that_no_network_computes_with_are_refused(small_dir: Path, name: str, value: float) -> None:
    """oneDNN's ReLU would hide most of them: it makes 0 of what is no number."""
    arrays = stack_arrays()
    arrays[name].flat[0] = value
    write_params(small_dir / "model_best.params", arrays)
    with pytest.raises(ArtifactError, match=f"{small_dir / 'model_best.params'} has .* values, .* in {name}"):
        load_predictor(small_dir)


def with_infinite_bias(path: Path) -> bytes:
    """The ONNX file with one value of its last constant of this name infinite, which goes with its parameters still."""
    model = onnx.load(path)
    (bias,) = (constant for constant in model.graph.initializer if constant.name == "last.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = np.inf
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    "precision",
    ["f32", "int8", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16"))],
)
def test_an_onnx_file_that_computes_no_numbers_is_noticed_at_the_first_image(
    quantized: Path, tmp_path: Path, precision: str
) -> None:
    (tmp_path / "model_best.params").symlink_to(quantized / "model_best.params")
    name = "model_int8.onnx" if precision == "int8" else "model.onnx"
    write_onnx(describe(tmp_path), tmp_path / "model.onnx")
    source = quantized / name if precision == "int8" else tmp_path / name
    (tmp_path / name).write_bytes(with_infinite_bias(source))
    predictor = load_predictor(tmp_path, precision=precision).predictor
    with pytest.raises(ArtifactError, match=f"The network of {tmp_path} computes values that are infinite"):
        predictor.predict(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("has_f32", [False, True])
def test_a_start_with_a_refused_int8_model_hashes_the_parameters_once(
    quantized: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_f32: bool
) -> None:
    """Whether a model.onnx is there, to which the same digest is compared, or the parameters are converted."""
    write_params(quantized / "model_best.params", stack_arrays(seed=1))  # other ones than model_int8.onnx is of
    if has_f32:
        write_onnx(describe(quantized), quantized / "model.onnx")
    hashed, file_digest = list[str](), hashlib.file_digest

    def counted(file: Any, algorithm: str) -> Any:
        hashed.append(file.name)
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    load_predictor(quantized)
    assert "model_int8.onnx is ignored" in caplog.text
    assert [str(name) for name in hashed] == [str(quantized / "model_best.params")]


def test_a_model_onnx_of_operators_that_the_engine_lacks_is_ignored_with_a_warning(
    small_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_onnx(describe(small_dir), small_dir / "model.onnx")
    model = onnx.load(small_dir / "model.onnx")
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save_model(model, small_dir / "model.onnx")
    assert kind_of_backend(load_predictor(small_dir)) is OpenVinoBackend
    assert "model.onnx is ignored, model_best.params is converted instead. OpenVINO cannot run" in caplog.text
