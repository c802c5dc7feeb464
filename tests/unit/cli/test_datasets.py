from __future__ import annotations

import re
from pathlib import Path

import pytest

from semseg.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.png", "masks", "--num-classes=2"], "argument images: 'a.png' is a file: give the folder that it is in."),
        (["images", "masks", "--num-classes=2"], "argument annotations: 'masks' is not there: give a folder."),
        (["images", "images", "--num-classes=255"], "'255' is not valid: it must be a number from 1 to 254."),
    ],
)
def test_what_is_no_folder_is_named(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(SystemExit) as end:
        main(["browse", *words])
    assert end.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.req("R22")
def test_demo_writes_the_four_directories_and_overlay_shows_a_pair(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"train", "train_annotation", "validation", "validation_annotation"}
    image, mask, out = tmp_path / "train/0000.jpg", tmp_path / "train_annotation/0000.png", tmp_path / "overlay.png"
    assert main(["overlay", str(image), str(mask), str(out)]) == 0
    assert out.stat().st_size > 0


def test_a_contact_sheet_shows_images_with_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "shapes"]) == 0
    (tmp_path / "shapes/train_annotation/classes.txt").write_text("ground\n<b>disc</b>\nsquare\ntriangle\n")
    command = ["browse", "shapes/train", "shapes/train_annotation", "--num-classes", "4"]
    assert main([*command, "--count", "5", "--out", "sheets/train.html"]) == 0
    sheet = (tmp_path / "sheets/train.html").read_text()
    assert capsys.readouterr().out.endswith("sheets/train.html\n")
    assert sheet.count("<figure>") == 5
    assert sheet.count("data:image/") == 15
    assert "5 of 48 images" in sheet
    assert "&lt;b&gt;disc&lt;/b&gt;" in sheet
    assert "<b>" not in sheet
    assert not re.search(r"(?:src|href)=\"(?!data:)", sheet)


def test_what_cannot_be_shown_is_named_and_the_rest_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "shapes"]) == 0
    (tmp_path / "shapes/validation/0000.jpg").write_bytes(b"no image")
    command = ["browse", "shapes/validation", "shapes/validation_annotation", "--num-classes", "4"]
    assert main(command) == 1
    assert "validation/0000.jpg: This is text, neither JPEG nor PNG." in capsys.readouterr().err
    assert (tmp_path / "browse.html").read_text().count("<figure>") == 11
    assert main([*command, "--out", "/proc/absent/browse.html"]) == 1
    assert "The sheet cannot be written: /proc/absent" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--count", "0"])
    assert "'0' is not valid: it must be a number from 1 up." in capsys.readouterr().err


def test_a_sheet_that_cannot_be_written_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "shapes"]) == 0
    drawn: list[str] = []
    monkeypatch.setattr("semseg.offline.browse.tile", lambda name, *_: drawn.append(name))
    command = ["browse", "shapes/validation", "shapes/validation_annotation", "--num-classes", "4", "--out", "shapes"]
    assert main(command) == 1
    said = "semseg: The sheet cannot be written: shapes: Is a directory. Name another file with --out.\n"
    assert capsys.readouterr().err == said
    assert not drawn


@pytest.mark.parametrize("name", ["train/0001.jpg", "validation_annotation/0000.png", "train_annotation/classes.txt"])
def test_a_full_disk_is_an_error_that_names_the_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("shapes") / name
    file.parent.mkdir(parents=True)
    file.symlink_to("/dev/full")  # the disk says what a full one says
    assert main(["demo", "shapes"]) == 1
    assert capsys.readouterr().err.startswith(f"semseg: The disk is full: no space is left in {file.parent}. ")
