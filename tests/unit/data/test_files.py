from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.data import files
from semseg.errors import DataError


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, files.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(DataError, match=rf"huge\.png has {files.MAX_FILE_BYTES + 1} bytes, more than"):
        files.read_image(path)


def test_a_directory_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        files.read_file(tmp_path)


def test_pictures_and_masks_are_read(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(files.read_image(tmp_path / "image.png")), pixels)
    np.testing.assert_array_equal(files.read_mask(tmp_path / "mask.png"), pixels[..., 0])
    assert files.verify_image(tmp_path / "image.png") == (2, 4)
