from __future__ import annotations

from pathlib import Path

import pytest

from semseg.cli import main


@pytest.mark.req("R22")
def test_demo_writes_the_four_directories_and_overlay_shows_a_pair(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"train", "train_annotation", "validation", "validation_annotation"}
    image, mask, out = tmp_path / "train/0000.jpg", tmp_path / "train_annotation/0000.png", tmp_path / "overlay.png"
    assert main(["overlay", str(image), str(mask), str(out)]) == 0
    assert out.stat().st_size > 0
