from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semseg.cli import main
from semseg.networks import timm
from semseg.networks.backbones import PRETRAINED


def test_fetch_weights_puts_both_backbones_into_mxnets_home(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sha1 = hashlib.sha1(b"content", usedforsecurity=False).hexdigest()
    names = [f"resnet50_v1s-{sha1[:8]}.params", f"resnet101_v1s-{sha1[:8]}.params"]
    for backbone, pretrained in PRETRAINED.items():
        monkeypatch.setitem(PRETRAINED, backbone, replace(pretrained, sha1=sha1))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    store.has(buffer.getvalue())
    paths = [tmp_path / "mxnet/models" / name for name in names]

    assert main(["fetch-weights", "resnet-101"]) == 0
    assert not paths[0].exists()
    assert main(["fetch-weights"]) == 0
    assert [path.read_bytes() for path in paths] == [b"content", b"content"]
    assert len(store.asked) == 2
    assert {str(path) for path in paths} <= set(capsys.readouterr().out.splitlines())


def test_fetch_weights_reports_what_cannot_be_fetched(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch-weights"]) == 1
    address = f"{store.url}/gluon/models/resnet50_v1s-25a187fa.zip"
    assert capsys.readouterr().err == f"semseg: {address} answers 404 Not Found.\n"


@pytest.mark.parametrize("options", [[], ["--out", "out"]])
def test_import_weights_names_its_file_and_where_it_goes(
    options: list[str], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def import_backbone(source: Path, folder: Path) -> Path:
        return folder / source.name

    monkeypatch.setattr(timm, "import_backbone", import_backbone)
    assert main(["import-weights", "given", *options]) == 0
    folder = Path("out") if options else tmp_path / "mxnet/models"
    assert capsys.readouterr().out == f"{folder / 'given'}\n"


def test_import_weights_refuses_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-weights", str(tmp_path / "absent")]) == 1
    assert f"semseg: {tmp_path}/absent is not there." in capsys.readouterr().err


def test_fetch_weights_knows_two_backbones(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fetch-weights", "resnet-50", "resnet-152"])
    assert end.value.code == 1
    assert "'resnet-152' is neither resnet-50 nor resnet-101. Did you mean resnet-" in capsys.readouterr().err
    assert store.asked == []
