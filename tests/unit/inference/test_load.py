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
from fake_backend import OnHost
from onnx import numpy_helper
from untrained import initial_arrays

from semseg import machine
from semseg.artifact.model_dir import describe, write_class_names
from semseg.codecs.params import read_params, write_params
from semseg.engines import choose
from semseg.engines.gluon import cuda, runtime
from semseg.engines.gluon.backend import GluonBackend
from semseg.engines.openvino import backend as openvino
from semseg.engines.openvino.backend import OpenVinoBackend, has_bf16
from semseg.errors import ArtifactError, DeviceError, UserError
from semseg.exporting.onnx_model import write_onnx
from semseg.inference import load
from semseg.inference.load import load_predictor
from semseg.networks.definitions import NETWORKS
from semseg.types import Float32


@pytest.mark.req("R56")
@pytest.mark.parametrize("backend", ["mxnet", "openvino"])
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
        "Pictures of more than 70000 pixels are cut into tiles.",
    ]


def test_free_memory_sets_the_size_of_tiles_and_the_room_for_requests(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "free_memory", lambda: 10**9)
    each = NETWORKS[0].bytes_per_pixel["openvino"]
    model = load_predictor(model_dir, "openvino", "f32")
    assert 0 <= 500_000_000 - model.predictor.max_tile_pixels * each < each
    assert model.memory == 10**9 - model.predictor.max_tile_pixels * each
    small, large = (load_predictor(model_dir, "openvino", "f32", pixels) for pixels in (10**6, 10**8))
    assert (small.predictor.max_tile_pixels, small.memory) == (10**6, 10**9 - 10**6 * each)
    assert (large.predictor.max_tile_pixels, large.memory) == (10**8, 500_000_000)


def test_both_engines_say_the_same(model_dir: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 57, 3), dtype=np.uint8)
    ours, theirs = (
        load_predictor(model_dir, backend, "f32").predictor.predict(picture).probabilities()
        for backend in ("openvino", "mxnet")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_the_directory_says_of_the_model_comes_with_it(model_dir: Path, copy: Path) -> None:
    write_class_names(copy, ["sky", "road", "tree"])
    assert load_predictor(copy).description == describe(copy)
    assert load_predictor(copy).description.class_names == ("sky", "road", "tree")
    assert load_predictor(model_dir).description.class_names is None


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9)])
def test_the_smallest_pictures_are_segmented(model_dir: Path, size: tuple[int, int]) -> None:
    assert load_predictor(model_dir).predictor.predict(np.zeros((*size, 3), np.uint8)).labels().shape == size


def test_an_empty_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=tmp_path.name):
        load_predictor(tmp_path)


def kind_of_backend(model: load.LoadedModel) -> type:
    return type(model.predictor._backend)


@pytest.mark.parametrize(
    ("device_file", "gpus", "expected"),
    [(False, 1, OpenVinoBackend), (True, 0, OpenVinoBackend), (True, 1, GluonBackend), (True, 2, GluonBackend)],
)
def test_mxnet_is_chosen_where_it_finds_a_gpu(
    model_dir: Path,
    device_file: bool,
    gpus: int,
    expected: type,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No machine with a GPU runs this: the count stands in for it."""
    monkeypatch.setattr(choose, "gpu_files", lambda: [Path("/dev/nvidia0")] if device_file else [])
    monkeypatch.setattr(runtime, "devices", lambda required=False: (runtime.load().cpu(), gpus))
    with caplog.at_level(logging.INFO):
        assert kind_of_backend(load_predictor(model_dir)) is expected
    assert f"Number of GPUs being used: {int(device_file and gpus > 0)}" in caplog.messages
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (gpus > 1) + (device_file and not gpus)
    if device_file and not gpus:
        assert warnings == ["The CPU serves: MXNet's cpu variant is installed, which does not use /dev/nvidia0."]


@pytest.mark.parametrize(("backend", "expected"), [("auto", OpenVinoBackend), ("mxnet", GluonBackend)])
def test_where_no_gpu_can_be_used_the_cpu_serves_and_a_warning_tells_why(
    model_dir: Path, backend: str, expected: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose, "gpu_files", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(cuda, "is_installed", lambda: True)
    monkeypatch.setattr(cuda, "driver", lambda: "the driver")
    monkeypatch.setattr(cuda, "why_none", lambda _: DeviceError("No GPU can be used: it sleeps.", "Wake it."))
    model = load_predictor(model_dir, backend)
    assert kind_of_backend(model) is expected
    assert model.predictor.predict(np.zeros((20, 31, 3), np.uint8)).labels().shape == (20, 31)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["The CPU serves. No GPU can be used: it sleeps. Wake it."]


def test_a_gpu_that_mxnet_has_no_code_for_is_named_and_the_cpu_serves(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise cuda.no_code("NVIDIA H100 has compute capability 9.0, for which")

    monkeypatch.setattr(choose, "gpu_files", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 1)
    monkeypatch.setattr(cuda, "driver", lambda: None)
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", refuse)
    assert kind_of_backend(load_predictor(model_dir)) is OpenVinoBackend
    assert "The CPU serves. The GPU NVIDIA H100 has compute capability 9.0" in caplog.text


def test_the_memory_of_a_gpu_sets_the_size_of_tiles_and_the_host_s_the_room_for_requests(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No machine with a GPU runs this: numbers stand in for it."""
    monkeypatch.setattr(load, "free_memory", lambda: 8 << 30)
    monkeypatch.setattr(choose, "gpu_files", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(runtime, "devices", lambda required=False: (runtime.cpu(), 1))
    monkeypatch.setattr(runtime, "device_memory", lambda device: 10 << 30)
    each = NETWORKS[0].bytes_per_pixel["mxnet"]
    model = load_predictor(model_dir)
    assert 0 <= (5 << 30) - model.predictor.max_tile_pixels * each < each
    assert model.memory > 7 << 30
    shared = load_predictor(model_dir, processes=2)
    assert shared.predictor.max_tile_pixels == model.predictor.max_tile_pixels // 2
    assert load_predictor(model_dir, max_tile_pixels=70_000).predictor.max_tile_pixels == 70_000


@pytest.mark.parametrize(
    ("backend", "expected"), [("mxnet", GluonBackend), ("openvino", OpenVinoBackend), ("auto", OpenVinoBackend)]
)
def test_the_engine_can_be_told(model_dir: Path, backend: str, expected: type) -> None:
    assert kind_of_backend(load_predictor(model_dir, backend)) is expected


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_mxnet_refuses_a_precision_it_does_not_know(model_dir: Path, precision: str) -> None:
    with pytest.raises(UserError, match=f"SEMSEG_PRECISION is {precision}, but MXNet"):
        load_predictor(model_dir, "mxnet", precision)


def test_int8_needs_a_model_of_that_precision(model_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{model_dir} has no int8 model.*semseg quantize"):
        load_predictor(model_dir, precision="int8")


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_an_int8_model_that_passed_is_used(quantized: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_predictor(quantized, precision=precision)
    told = f"OpenVINO computes in int8 on {machine.usable_cores()} cores: mIOU 0.6667 in int8, 0.6667 in f32, on 6 pic"
    assert any(message.startswith(told) for message in caplog.messages)
    assert caplog.messages[-2] == f"Loading weights from {quantized / 'model_int8.onnx'}"


@pytest.mark.parametrize(
    "precision", ["f32", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16"))]
)
def test_another_precision_can_be_told(quantized: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
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
        ({"mIOU_int8": ""}, "did not pass its gate: it tells no mIOU"),
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
    assert f"computes in {'bf16' if has_bf16() else 'f32'} on" in caplog.text


def test_an_f32_model_in_the_place_of_an_int8_one_is_refused(copy: Path) -> None:
    write_onnx(describe(copy), copy / "model_int8.onnx")
    with pytest.raises(ArtifactError, match="it tells no mIOU"):
        load_predictor(copy, precision="int8")


class Compiled(OnHost):
    """Stands in for a network that is compiled, which not every CPU can be for bf16."""

    def __init__(self, model: Path | bytes, precision: str, **_: object) -> None:
        self.precision = precision


@pytest.mark.parametrize(
    ("bf16", "told", "expected"), [(True, "auto", "bf16"), (True, "bf16", "bf16"), (False, "auto", "f32")]
)
def test_precision_follows_the_cpu(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, told: str, expected: str
) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: bf16)
    monkeypatch.setattr(openvino, "OpenVinoBackend", Compiled)
    found = load_predictor(model_dir, precision=told).predictor._backend
    assert isinstance(found, Compiled)
    assert found.precision == expected


def test_bf16_on_a_cpu_without_it_is_the_user_s_error(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(
        UserError, match=r"SEMSEG_PRECISION is bf16, but this CPU .* Set SEMSEG_PRECISION to auto or f32"
    ):
        load_predictor(model_dir, precision="bf16")


def test_a_model_onnx_of_the_same_parameters_is_used(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_onnx(describe(copy), copy / "model.onnx")
    with caplog.at_level(logging.INFO):
        load_predictor(copy)
    assert f"Loading weights from {copy / 'model.onnx'}" in caplog.messages
    assert not any(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("content", [b"", b"not ONNX", None])
def test_any_other_model_onnx_is_ignored_with_a_warning(
    copy: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        (copy / "model.onnx").mkdir()
    else:
        (copy / "model.onnx").write_bytes(content)
    with caplog.at_level(logging.INFO):
        load_predictor(copy)
    assert f"model.onnx is ignored, model_best.params is converted instead. {copy / 'model.onnx'}" in caplog.text
    assert caplog.messages[-2] == f"Loading weights from {copy / 'model_best.params'}"


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_to_serve_an_onnx_file_neither_mxnet_nor_onnx_is_imported(quantized: Path, copy: Path, precision: str) -> None:
    if precision == "f32":
        write_onnx(describe(copy), copy / "model.onnx")
    directory = copy if precision == "f32" else quantized
    script = (
        "import sys, pathlib, semseg.serving.processes as processes; "
        f"assert processes.load_predictor(pathlib.Path({str(directory)!r}), 'auto', {precision!r}); "
        "sys.exit(bool({'mxnet', 'gluoncv', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=300, check=False).returncode == 0


def probabilities(directory: Path, cache: Path | None) -> Float32:
    """Of one picture, in f32."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 57, 3), dtype=np.uint8)
    return load_predictor(directory, "openvino", "f32", cache_dir=cache).predictor.predict(picture).probabilities()


def blobs(folder: Path) -> dict[str, int]:
    """What OpenVINO put into its cache, with the times when."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.blob")}


def test_what_openvino_compiled_is_kept_for_the_next_start(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new/cache"
    write_onnx(describe(copy), copy / "model.onnx")
    first = probabilities(copy, cache)
    kept = blobs(cache)
    assert len(kept) == 1
    assert cache.stat().st_mode & 0o777 == 0o700
    np.testing.assert_array_equal(probabilities(copy, cache), first)
    np.testing.assert_array_equal(probabilities(copy, None), first)
    assert blobs(cache) == kept


def test_a_model_in_the_same_place_with_other_parameters_is_compiled_anew(copy: Path, tmp_path: Path) -> None:
    path, cache = copy / "model.onnx", tmp_path / "cache"
    write_onnx(describe(copy), path)
    before = probabilities(copy, cache)
    kept, times = blobs(cache), path.stat()
    params = copy / "model_best.params"
    params.unlink()
    write_params(params, initial_arrays("fcn", "resnet-50", 3, seed=1))
    write_onnx(describe(copy), path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = probabilities(copy, cache)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, probabilities(copy, None))
    assert len(blobs(cache)) > len(kept)


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2], lambda _: b"x"])
def test_a_damaged_cache_is_no_fault(copy: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_onnx(describe(copy), copy / "model.onnx")
    expected = probabilities(copy, tmp_path / "cache")
    (blob,) = (tmp_path / "cache").glob("*.blob")
    content = damage(blob.read_bytes())
    blob.unlink()
    blob.write_bytes(content)
    np.testing.assert_array_equal(probabilities(copy, tmp_path / "cache"), expected)


def test_a_folder_that_others_can_write_is_no_cache(
    model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    probabilities(model_dir, tmp_path)
    assert f"SEMSEG_CACHE_DIR is ignored: {tmp_path} is no writable folder of this user alone." in caplog.messages
    assert not blobs(tmp_path)


@pytest.mark.parametrize("backend", ["mxnet", "openvino"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conv1.0.weight", np.nan),
        ("layer4.2.conv3.weight", np.inf),
        ("layer1.0.bn1.running_var", -1),
        ("head.block.4.bias", np.nan),
    ],
)
def test_parameters_that_no_network_computes_with_are_refused(
    model_dir: Path, tmp_path: Path, backend: str, name: str, value: float
) -> None:
    """oneDNN's ReLU would hide most of them: it makes 0 of what is no number."""
    arrays = dict(read_params(model_dir / "model_best.params"))
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = value
    write_params(tmp_path / "model_best.params", arrays)
    with pytest.raises(ArtifactError, match=f"{tmp_path / 'model_best.params'} has values .* in {name}"):
        load_predictor(tmp_path, backend)


def with_infinite_bias(path: Path) -> bytes:
    """The ONNX file with one value of its last constant of this name infinite, which goes with its parameters still."""
    model = onnx.load(path)
    (bias,) = (constant for constant in model.graph.initializer if constant.name == "head.block.4.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = np.inf
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    "precision",
    ["f32", "int8", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16"))],
)
def test_an_onnx_file_that_computes_no_numbers_is_found_out_by_the_first_picture(
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
    quantized: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_f32: bool
) -> None:
    """Whether a model.onnx is there, whose digest is compared, or one is made, which gets the digest."""
    if has_f32:
        write_onnx(describe(copy), copy / "model.onnx")
    (copy / "model_int8.onnx").symlink_to(quantized / "model_int8.onnx")  # of other parameters
    hashed, file_digest = list[str](), hashlib.file_digest

    def counted(file: Any, algorithm: str) -> Any:
        hashed.append(file.name)
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    load_predictor(copy)
    assert "model_int8.onnx is ignored" in caplog.text
    assert [str(name) for name in hashed] == [str(copy / "model_best.params")]


def test_a_model_onnx_of_operators_that_the_engine_lacks_is_ignored_with_a_warning(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_onnx(describe(copy), copy / "model.onnx")
    model = onnx.load(copy / "model.onnx")
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save_model(model, copy / "model.onnx")
    assert kind_of_backend(load_predictor(copy)) is OpenVinoBackend
    assert "model.onnx is ignored, model_best.params is converted instead. OpenVINO cannot run" in caplog.text
