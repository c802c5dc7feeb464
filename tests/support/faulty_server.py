"""`serve` with a network that is sound while it warms up, and `raises` or `hangs` after that, as told."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from unittest.mock import patch

from semseg.artifact.model_dir import ModelDescription
from semseg.inference.load import LoadedModel
from semseg.inference.predictor import Predictor
from semseg.serving import engine, processes, server
from semseg.types import Float32


class Faulty:
    """A network whose classes are the three channels, as long as it works."""

    def logits(self, images: Float32) -> Float32:
        if images.shape[2:] != (64, 64):
            if sys.argv[1] == "raises":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            threading.Event().wait(300)  # long enough; a test that fails leaves nothing for ever
        return images[:, :, ::8, ::8]


def main() -> int:
    description = ModelDescription("fcn", "resnet-50", 3, None, True, Path("/nowhere/model_best.params"), None)
    model = LoadedModel(Predictor(Faulty(), 3, max_tile_pixels=10**6), description, memory=10**9)
    if sys.argv[1] == "hangs":
        engine._STUCK_SECONDS = engine._STUCK_SECONDS_A_PIXEL = 0
    with patch.object(processes, "load_predictor", lambda *_, **__: model):
        return server.serve(os.environ)


if __name__ == "__main__":
    sys.exit(main())
