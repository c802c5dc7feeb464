from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semseg.data.normal_forms import FileFinder

NFC, NFD = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


def test_a_path_is_found_in_any_normal_form_of_each_part(tmp_path: Path) -> None:
    file = tmp_path / NFD / f"{NFC}.png"
    file.parent.mkdir()
    file.touch()
    for folder in (NFC, NFD):
        for name in (NFC, NFD):
            assert FileFinder().find(tmp_path / folder / f"{name}.png") == file


def test_what_is_there_is_never_taken_for_another(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).touch()
        assert FileFinder().find(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize("name", ["other", f"{NFC}/below", f"{NFC}/below/that"])
def test_what_is_not_there_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / NFD).touch()
    assert FileFinder().find(tmp_path / name) == tmp_path / name


def test_of_two_that_look_the_same_none_is_guessed(tmp_path: Path) -> None:
    for name in ("\u00f6a\u0308", "o\u0308a\u0308"):
        (tmp_path / name).touch()
    wanted = tmp_path / "\u00f6\u00e4"
    assert FileFinder().find(wanted) == wanted


def test_a_directory_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files a manifest lists."""
    for number in range(50):
        (tmp_path / f"{NFD}{number}").touch()
    read: list[Path] = []
    iterdir = Path.iterdir

    def noted(path: Path) -> Iterator[Path]:
        read.append(path)
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", noted)
    finder = FileFinder()
    for number in range(50):
        assert finder.find(tmp_path / f"{NFC}{number}").name == f"{NFD}{number}"
    assert read == [tmp_path]
