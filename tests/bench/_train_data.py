"""The training images of the benchmarks of training, and what their batches are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from semseg.data.label_map import DEFAULT, parse_label_map
from semseg.data.loader import TrainingLoader
from semseg.data.pairs import Pair, list_pairs
from semseg.data.samples import Sampler
from semseg.data.shapes import write_shapes

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEMSEG_CAMVID", ROOT / "../shared/data/camvid")).resolve()
CLASSES, CROP, BASE, BATCH = 12, 240, 520, 4
STEPS = 4
"""Training steps of a turn."""

LOADED = 40
SAMPLER = Sampler(parse_label_map(DEFAULT, CLASSES, "the label map"), CROP, BASE, seed=0, workers=16)

LONE, SIDE, LONE_REPEATS = 512, 30, 4
"""The lone convolution: its channels, the pixels along each side, as in the network's last stage, and how often a turn
runs it forward and backward."""

LONE_GFLOP = LONE_REPEATS * 3 * 2 * 9 * LONE * LONE * BATCH * SIDE * SIDE / 1e9
"""Of a turn."""


def training_folder(scratch: Path) -> Path:
    """The folder of CamVid, or without it, `scratch` with generated images of the same size."""
    if CAMVID.is_dir():
        return CAMVID
    write_shapes(scratch, train=LOADED, validation=1, size=(480, 360), seed=0)
    return scratch


def training_pairs(folder: Path) -> tuple[Pair, ...]:
    """The training pairs in a folder."""
    return list_pairs("train", folder / "train", folder / "train_annotation").pairs


def endless(pairs: Sequence[Pair], sampler: Sampler = SAMPLER, batch: int = BATCH) -> Iterator[Any]:
    """The batches of all epochs, without end."""
    loader = TrainingLoader(pairs, sampler, batch)
    return chain.from_iterable(map(loader.epoch, count()))
