from __future__ import annotations

from pathlib import Path

import pytest

from semseg import __version__
from semseg.cli import main


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("argv", [[], ["trane"], ["train", "--fast"]])
def test_an_unknown_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: semseg" in capsys.readouterr().err


@pytest.mark.req("R22")
def test_demo_writes_the_four_directories_and_overlay_shows_a_pair(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"train", "train_annotation", "validation", "validation_annotation"}
    image, mask, out = tmp_path / "train/0000.jpg", tmp_path / "train_annotation/0000.png", tmp_path / "overlay.png"
    assert main(["overlay", str(image), str(mask), str(out)]) == 0
    assert out.stat().st_size > 0
