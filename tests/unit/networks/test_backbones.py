from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.codecs.params import write_params
from semseg.errors import ArtifactError, HyperparameterError, WeightsError
from semseg.networks import backbones
from semseg.networks.definitions import BACKBONES, Backbone
from semseg.networks.layers import Layers, T
from semseg.networks.parameters import backbone_table, initial_values
from semseg.networks.store import StoredFile, fallback_folder, fault, models_folder
from semseg.types import Arrays

CONTENT = bytes(range(256))
SHA1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
NAMES = {
    "resnet-50": ("resnet50_v1s-25a187fa.params", "25a187fa281ddc98afbcd0cc0f0646885b874b80"),
    "resnet-101": ("resnet101_v1s-bd93a83c.params", "bd93a83c05f709a803b1221aeff0b028e6eebb03"),
}


@pytest.fixture
def stored(store: Any, monkeypatch: pytest.MonkeyPatch) -> StoredFile:
    """Makes CONTENT the expected file of ResNet-50, which the store on the network has."""
    facts = replace(backbones.PRETRAINED["resnet-50"], sha1=SHA1)
    monkeypatch.setitem(backbones.PRETRAINED, "resnet-50", facts)
    file = backbones.stored_file("resnet-50")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(file.name, CONTENT)
    store.has(buffer.getvalue())
    return file


def put(content: bytes, name: str) -> Path:
    path = models_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_every_backbone_has_pretrained_weights() -> None:
    assert list(backbones.PRETRAINED) == [backbone.name for backbone in BACKBONES]


@pytest.mark.parametrize("backbone", list(NAMES))
def test_the_address_is_that_of_gluoncvs_store(monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    name, sha1 = NAMES[backbone]
    path = f"gluon/models/{name.removesuffix('.params')}.zip"
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    assert backbones.stored_file(backbone) == StoredFile(name, sha1, f"{backbones.GLUON_STORE}/{path}")
    for mirror in ("http://mirror/of/it", "http://mirror/of/it/"):
        monkeypatch.setenv("MXNET_GLUON_REPO", mirror)
        assert backbones.stored_file(backbone).url == f"http://mirror/of/it/{path}"


def test_an_absent_file_is_fetched_once(store: Any, stored: StoredFile, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "semseg")
    path = models_folder() / stored.name
    assert [backbones.find_backbone("resnet-50") for _ in range(2)] == [path, path]
    assert path.read_bytes() == CONTENT
    assert store.asked == [f"/gluon/models/{stored.name.removesuffix('.params')}.zip"]
    assert caplog.messages == [f"Fetching {stored.url}, for at most 20 seconds.", f"Fetched {path}."]


@pytest.mark.parametrize("home", ["file", "x" * 300])
def test_where_mxnets_home_cannot_be_written_the_file_is_fetched_and_found_elsewhere(
    store: Any, stored: StoredFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / home))
    path = fallback_folder() / stored.name
    assert [backbones.find_backbone("resnet-50") for _ in range(2)] == [path, path]
    assert path.read_bytes() == CONTENT
    assert len(store.asked) == 1


def test_a_damaged_file_is_reported_and_replaced(stored: StoredFile, caplog: pytest.LogCaptureFixture) -> None:
    path = put(b"cut short", stored.name)
    assert backbones.find_backbone("resnet-50") == path
    assert path.read_bytes() == CONTENT
    assert f"{path} is damaged (SHA-1 " in caplog.text


@pytest.mark.parametrize("damaged", [False, True])
def test_an_imported_file_spares_the_download(store: Any, stored: StoredFile, damaged: bool) -> None:
    imported = put(b"imported", backbones.imported_name("resnet-50"))
    if damaged:
        put(b"cut short", stored.name)
    assert backbones.find_backbone("resnet-50") == imported
    assert store.asked == []


def test_gluoncvs_file_goes_before_an_imported_one(stored: StoredFile) -> None:
    path = put(CONTENT, stored.name)
    put(b"imported", backbones.imported_name("resnet-50"))
    assert backbones.find_backbone("resnet-50") == path


@pytest.mark.req("R6", "R7")
@pytest.mark.parametrize("backbone", list(NAMES))
@pytest.mark.parametrize("content", [None, b"cut short"])
@pytest.mark.parametrize("offline", [False, True])
def test_an_absent_or_damaged_file_is_named_with_the_ways_out(
    store: Any, monkeypatch: pytest.MonkeyPatch, backbone: str, content: bytes | None, offline: bool
) -> None:
    name, checksum = NAMES[backbone]
    path = models_folder() / name
    if content is not None:
        put(content, name)
    if offline:
        monkeypatch.setenv("SEMSEG_OFFLINE", "1")
    with pytest.raises(HyperparameterError) as caught:
        backbones.find_backbone(backbone)
    assert f"{path} {'is not there' if content is None else 'is damaged (SHA-1 '}" in caught.value.message
    assert ("SEMSEG_OFFLINE is set" if offline else ".zip answers 404 Not Found") in caught.value.message
    ways = ("use_pretrained_model to False", "--with-weights", name, checksum, "semseg import-weights", "MXNET_HOME")
    for way in ("The default use_pretrained_model=True needs it", *ways):
        assert way in caught.value.hint
    assert len(str(caught.value)) < 1000  # the platform shows no more of a failure
    assert content is None or path.read_bytes() == content


def test_fetching_beforehand_asks_only_for_what_is_not_there(
    store: Any, stored: StoredFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "semseg")
    assert backbones.fetch_backbone("resnet-50") == backbones.fetch_backbone("resnet-50")
    assert len(store.asked) == 1
    assert "for at most 600 seconds" in caplog.text
    put(b"cut short", stored.name)
    backbones.fetch_backbone("resnet-50")
    assert len(store.asked) == 2
    assert fault(models_folder() / stored.name, stored.sha1) == ""


def test_fetching_beforehand_takes_no_other_folder(store: Any, stored: StoredFile, tmp_path: Path) -> None:
    (tmp_path / "mxnet").touch()
    with pytest.raises(WeightsError, match=f"{tmp_path}/mxnet/models/{stored.name} cannot be written"):
        backbones.fetch_backbone("resnet-50")


# Reading a file: of a small backbone, whose layers are enough.


def _stages(layers: Layers[T], image: T) -> Sequence[T]:
    return [layers.convolution(image, "conv1.0", 4, 3, norm="bn1")]


SMALL = Backbone("small", "Small", _stages)


@pytest.fixture
def trained() -> Arrays:
    return initial_values(backbone_table(SMALL), seed=1)


def test_a_backbones_arrays_are_read_and_the_classifiers_passed_over(tmp_path: Path, trained: Arrays) -> None:
    write_params(tmp_path / "file", trained | {"fc.weight": np.ones((2, 4)), "output.bias": np.arange(2)})
    found = backbones.read_backbone(tmp_path / "file", SMALL)
    assert found.keys() == trained.keys()
    for name, array in trained.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("size", [0, 9, 100, -1])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, trained: Arrays, size: int) -> None:
    path = tmp_path / "file"
    write_params(path, trained)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ArtifactError, match="import-weights") as caught:
        backbones.read_backbone(path, SMALL)
    assert caught.value.message.startswith((f"{path} is truncated", f"{path} is not an MXNet parameter file"))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bn1.beta": None}, "bn1.beta is missing"),
        ({"bn1.beta": np.ones(3)}, "bn1.beta has shape (3,) instead of (4,)"),
        ({"bn1.beta": np.ones(4, np.int64)}, "bn1.beta has the dtype int64, which is not floating-point"),
    ],
)
def test_a_file_of_another_network_is_refused(
    tmp_path: Path, trained: Arrays, change: dict[str, Any], fault: str
) -> None:
    path = tmp_path / "file"
    write_params(path, {name: array for name, array in (trained | change).items() if array is not None})
    with pytest.raises(ArtifactError) as caught:
        backbones.read_backbone(path, SMALL)
    assert caught.value.message == f"{path} does not fit the network: {fault}."
