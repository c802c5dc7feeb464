"""`serve` with a network that works during warm-up and then misbehaves as the first argument says.

`raises`: raises an error; `hangs`: does not return; `waits FOLDER`: appends the width of each image to the folder's
file `seen`, then waits for its file `go`; `thrifty`: works, with 40 MB of memory for requests.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from fake_backend import OnHost

from semseg.artifact.model_dir import ModelDescription
from semseg.inference.load import LoadedModel
from semseg.inference.predictor import Predictor
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.serving import prediction_queue, processes, server
from semseg.types import Classes, Float32


class Faulty(OnHost):
    """A network whose logits are the three channels of the image, until it misbehaves."""

    def logits(self, images: Float32) -> Float32:
        if images.shape[2:] != (64, 64):
            if sys.argv[1] == "raises":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if sys.argv[1] == "hangs":
                threading.Event().wait(
                    300
                )  # longer than any test waits, yet limited, so that a failed test leaves no process behind
            if sys.argv[1] == "waits":
                wait_for_go(Path(sys.argv[2]), images.shape[3])
        return images[:, :, ::8, ::8]


def wait_for_go(folder: Path, width: int) -> None:
    with (folder / "seen").open("a") as seen:
        seen.write(f"{width}\n")
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def main() -> int:
    memory = 40 * 10**6 if sys.argv[1] == "thrifty" else 10**9
    description = ModelDescription(
        NETWORKS[0], BACKBONES[0], 3, None, True, Path("/nowhere/model_best.params"), Classes.unknown(3)
    )
    model = LoadedModel(Predictor(Faulty(), 3, max_tile_pixels=10**6), description, memory)
    if sys.argv[1] == "hangs":
        prediction_queue._STUCK_SECONDS = prediction_queue._STUCK_SECONDS_PER_PIXEL = 0
    with patch.object(processes, "load_predictor", lambda *_, **__: model):
        return server.serve(os.environ)


if __name__ == "__main__":
    sys.exit(main())
