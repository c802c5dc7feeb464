from __future__ import annotations

import gc
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.artifact.earlier import load_earlier
from semseg.errors import ArtifactError, ChannelError

Arrays = dict[str, NDArray[Any]]
Encode = Callable[[Arrays], bytes]
Network = Callable[..., Arrays]

WANTED = {"backbone": "resnet-50", "algorithm": "fcn", "crop_size": "240", "num_classes": "5", "epochs": "10"}
STATED = {"backbone": "resnet-50", "algorithm": "fcn", "crop_size": "240", "num_classes": "5", "_aux_loss": "True"}
"""The relevant part of the built-in algorithm's hyperparams.json, whose values are strings."""


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    channel = tmp_path / "model"
    channel.mkdir()
    return channel


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


@pytest.fixture
def files(encode: Encode, network: Network) -> dict[str, bytes]:
    """The files that the built-in algorithm writes; the best parameters are ones, the last ones zeros."""
    best: Arrays = network()
    last = {name: np.zeros_like(array) for name, array in best.items()}
    return {
        "hyperparams.json": json.dumps(STATED).encode(),
        "model_best.params": encode(best),
        "model_algo-1": encode(last),
    }


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix.endswith("gz") else "w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def put(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)


@pytest.mark.req("R43", "R47")
@pytest.mark.parametrize("name", ["model.tar.gz", "of March.tgz", "model.tar"])
def test_a_packed_model_is_loaded_and_may_be_removed_then(
    channel: Path, scratch: Path, files: dict[str, bytes], network: Network, name: str
) -> None:
    archive = pack(channel / name, files)
    (channel / "README").write_text("Not a model.")
    earlier = load_earlier(channel, WANTED, scratch)
    shutil.rmtree(scratch)
    gc.collect()
    assert earlier.arrays.keys() == network().keys()
    for key, array in network().items():
        np.testing.assert_array_equal(earlier.arrays[key], array)
    assert earlier.origin == f"{archive} (model_best.params)"
    assert not earlier.classes.named


@pytest.mark.req("R47")
def test_the_output_folder_of_a_job_is_a_model(
    channel: Path, scratch: Path, files: dict[str, bytes], network: Network
) -> None:
    """The platform puts output.tar.gz, which holds output/data, beside the model."""
    archive = pack(channel / "model.tar.gz", files)
    pack(channel / "output.tar.gz", {"metrics.json": b"{}", "data_report.json": b"{}"})
    earlier = load_earlier(channel, WANTED, scratch)
    assert earlier.arrays.keys() == network().keys()
    assert earlier.origin == f"{archive} (model_best.params)"


@pytest.mark.req("R43", "R47")
@pytest.mark.parametrize(("left", "value"), [("model_best.params", 1), ("model_algo-1", 0)])
def test_loose_files_are_used_where_they_are(
    channel: Path, scratch: Path, files: dict[str, bytes], left: str, value: int
) -> None:
    put(channel, {"hyperparams.json": files["hyperparams.json"], left: files[left]})
    channel.chmod(0o555)
    earlier = load_earlier(channel, WANTED, scratch)
    assert (earlier.arrays["head.block.4.weight"] == value).all()
    assert earlier.origin == str(channel / left)
    assert list(scratch.iterdir()) == []


def test_the_best_parameters_come_first(channel: Path, scratch: Path, files: dict[str, bytes]) -> None:
    put(channel, files)
    assert load_earlier(channel, WANTED, scratch).arrays["head.block.4.weight"].all()


def test_class_names_come_along(channel: Path, scratch: Path, files: dict[str, bytes]) -> None:
    names = json.dumps({"classes": list("abcde")}).encode()
    pack(channel / "model.tar.gz", {**files, "classes.json": names})
    assert load_earlier(channel, WANTED, scratch).classes.names == tuple("abcde")


@pytest.mark.req("R46")
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (
            {"num_classes": "4"},
            "num_classes is 4, but the model in the channel model has 5.",
            "Set num_classes to 5, or leave the channel out",
        ),
        ({"backbone": "resnet-101"}, "backbone is resnet-101, but the model in the channel model has resnet-50.", ""),
        ({"algorithm": "psp"}, "algorithm is psp, but the model in the channel model has fcn.", ""),
        (
            {"crop_size": "480", "num_classes": "4"},
            "crop_size is 480, but the model in the channel model has 240; "
            "num_classes is 4, but the model in the channel model has 5.",
            "Set crop_size to 240 and num_classes to 5, or",
        ),
    ],
)
def test_every_difference_is_named_with_both_values(
    channel: Path,
    scratch: Path,
    files: dict[str, bytes],
    packed: bool,
    wanted: dict[str, str],
    message: str,
    hint: str,
) -> None:
    if packed:
        pack(channel / "model.tar.gz", files)
    else:
        put(channel, files)
    with pytest.raises(ChannelError) as caught:
        load_earlier(channel, WANTED | wanted, scratch)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


@pytest.mark.req("R46")
@pytest.mark.parametrize("stated", [None, {"algorithm": "fcn", "backbone": "resnet-50"}])
def test_an_unknown_crop_size_is_not_compared(
    channel: Path, scratch: Path, files: dict[str, bytes], stated: dict[str, str] | None
) -> None:
    del files["hyperparams.json"]
    pack(channel / "model.tar.gz", files | ({"hyperparams.json": json.dumps(stated).encode()} if stated else {}))
    assert load_earlier(channel, WANTED | {"crop_size": "480"}, scratch).arrays


def test_crop_sizes_are_compared_as_training_rounds_them(channel: Path, scratch: Path, files: dict[str, bytes]) -> None:
    put(channel, files | {"hyperparams.json": json.dumps(STATED | {"crop_size": "233"}).encode()})
    assert load_earlier(channel, WANTED, scratch).arrays


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "it holds nothing."),
        (["hyperparams.json", "notes"], "it holds 'hyperparams.json', 'notes'."),
        (["model.tar.gz", "other.tar.gz"], "it holds 'model.tar.gz', 'other.tar.gz'."),
        (["output.tar.gz"], "it holds 'output.tar.gz'."),
        (["a.tar", "hyperparams.json", "model_algo-1"], "it holds 'a.tar', 'model_algo-1'."),
        ([f"{number}.tgz" for number in range(8)], "it holds '0.tgz', '1.tgz', '2.tgz', '3.tgz', '4.tgz' and 3 more."),
        (["a\n.tar", "b.tar"], r"it holds 'a\n.tar', 'b.tar'."),
    ],
)
def test_no_model_or_several_are_an_error_that_lists_them(
    channel: Path, scratch: Path, found: list[str], says: str
) -> None:
    put(channel, dict.fromkeys(found, b""))
    with pytest.raises(ChannelError) as caught:
        load_earlier(channel, WANTED, scratch)
    assert caught.value.message == f"The channel model must hold one model, but {says}"
    assert "Give the model.tar.gz of a training job" in caught.value.hint


def test_hidden_files_are_no_models(channel: Path, scratch: Path, files: dict[str, bytes]) -> None:
    """macOS puts a ._ file beside each file on a disk of another file system."""
    archive = pack(channel / "model.tar.gz", files)
    (channel / "._model.tar.gz").write_bytes(bytes.fromhex("00051607"))
    pack(channel / ".old.tar.gz", files)
    assert load_earlier(channel, WANTED, scratch).origin == f"{archive} (model_best.params)"


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("model/model_best.params", "There is a model in {channel}/model: give that folder, or move its files up."),
        ("job/model/model_algo-1", "There is a model in {channel}/job/model: give that folder"),
        (
            "my models/model.tar.gz",
            "model.tar.gz is still packed: unpack it with tar -xf '{channel}/my models/model",
        ),
    ],
)
def test_a_model_in_a_folder_below_is_found_for_the_user(channel: Path, scratch: Path, place: str, hint: str) -> None:
    (channel / place).parent.mkdir(parents=True)
    (channel / place).touch()
    with pytest.raises(ChannelError, match="must hold one model") as caught:
        load_earlier(channel, WANTED, scratch)
    assert hint.format(channel=channel) in caught.value.hint


def test_pipes_and_directories_are_no_models(channel: Path, scratch: Path) -> None:
    os.mkfifo(channel / "model.tar.gz")
    (channel / "model_best.params").mkdir()
    with pytest.raises(ChannelError, match=r"it holds 'model\.tar\.gz', 'model_best\.params'\."):
        load_earlier(channel, WANTED, scratch)


def test_a_channel_that_is_not_there_is_an_error(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(ChannelError, match=r"The channel model: .*/model cannot be read: No such file"):
        load_earlier(tmp_path / "model", WANTED, scratch)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model_best.params": b"weights"}, "model_best.params is not an MXNet parameter file"),
        ({"hyperparams.json": b"{"}, "hyperparams.json is not valid JSON"),
        ({"hyperparams.json": b'{"num_classes": "6"}'}, "says that num_classes is 6, but the parameters are of"),
        ({"classes.json": b"{}"}, "classes.json must hold a list of 5 names"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_model_is_named_with_its_channel(
    channel: Path, scratch: Path, files: dict[str, bytes], packed: bool, content: dict[str, bytes], says: str
) -> None:
    if packed:
        pack(channel / "model.tar.gz", files | content)
    else:
        put(channel, files | content)
    with pytest.raises(ArtifactError) as caught:
        load_earlier(channel, WANTED, scratch)
    assert caught.value.message.startswith("The channel model: ")
    assert says in caught.value.message


@pytest.mark.parametrize("packed", [True, False])
def test_no_training_starts_from_parameters_that_are_no_numbers(
    channel: Path, scratch: Path, files: dict[str, bytes], encode: Encode, network: Network, packed: bool
) -> None:
    arrays = network()
    arrays["auxlayer.block.0.weight"][0] = np.nan
    content = files | {"model_best.params": encode(arrays)}
    if packed:
        pack(channel / "model.tar.gz", content)
    else:
        put(channel, content)
    with pytest.raises(ArtifactError, match=r"^The channel model: .* NaN values, .* in auxlayer\.block\.0\.weight\."):
        load_earlier(channel, WANTED, scratch)


def test_a_damaged_archive_is_named(channel: Path, scratch: Path, files: dict[str, bytes]) -> None:
    archive = pack(channel / "model.tar.gz", files)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ArtifactError) as caught:
        load_earlier(channel, WANTED, scratch)
    assert caught.value.message == f"The channel model: {archive} is truncated: its gzip stream has no end."
    assert "copied whole" in caught.value.hint
