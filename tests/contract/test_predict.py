"""`semseg predict` beside a server of the same model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import small_server
from PIL import Image
from serve_process import Server, encode, smooth_noise
from small_model import known

from semseg import cli


def test_masks_and_probabilities_are_those_of_the_server(server: Server, small_base: Path, tmp_path: Path) -> None:
    bodies = {f"{width}.jpg": encode(smooth_noise(height, width)) for height, width in [(61, 83), (1, 40), (97, 300)]}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    out = tmp_path / "out"
    with known(*small_server.DECLARED):
        options = ["--out", str(out), "--precision", "f32", "--save", "mask,npy,json,color"]
        assert cli.main(["predict", str(small_base), str(tmp_path), *options]) == 0
    for name, body in bodies.items():
        written = out / name
        status, _, png = server.invoke(body, Accept="image/png")
        assert status == 200
        with Image.open(written.with_suffix(".png")) as mine, Image.open(io.BytesIO(png)) as theirs:
            assert mine.mode == theirs.mode
            assert (np.asarray(mine) == np.asarray(theirs)).all()
        assert written.with_suffix(".npy").read_bytes() == server.invoke(body, Accept="application/x-npy")[2]
        assert written.with_suffix(".json").read_bytes() == server.invoke(body, Accept="application/json")[2]
