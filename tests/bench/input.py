"""Measures the speed of making training input from files, against GluonCV, and the cost of the check before training.

`input_WxH`: images a second on one core with full augmentation (crop 240, base 520), before normalisation, over those
of GluonCV's `SegmentationDataset`. The two alternate, on the same files and random numbers. This project's input is
uint8 arrays, GluonCV's float32 and int32 in MXNet's memory; the table also shows GluonCV stopped at uint8 arrays.
`input_check`: the duration of the check's pass over the training files, over that of loading them for one epoch.

The images are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid, enlarged; without them, noise.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semseg.data.check import check
from semseg.data.files import LocalFile
from semseg.data.label_map import DEFAULT, parse_label_map
from semseg.data.loader import TrainingLoader
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.data.samples import IndexedPair, Sampler
from semseg.engines.gluon import runtime

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEMSEG_CAMVID", ROOT / "../shared/data/camvid")).resolve()
BARS = {(500, 375): 3.0, (2048, 1024): 2.0}
CHECK_BAR = 1.0
IMAGES, ROUNDS, CHECK_ROUNDS = 8, 25, 5
CROP, BASE, BATCH, WORKERS = 240, 520, 16, 16
LABEL_MAP = parse_label_map(DEFAULT, 12, "the label map")  # CamVid's masks have values from 0 to 11
THIS_PROJECT, UINT8, GLUONCV = "this project", "GluonCV to uint8", "GluonCV"
Make = Callable[[IndexedPair], object]


def main() -> int:
    """Runs both parts; returns 1 if a bar is missed."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    os.environ["OMP_NUM_THREADS"] = "1"
    bytearray(31 << 20)  # freeing it makes glibc keep memory that is freed later, for both, as in any training
    makers = {THIS_PROJECT: semseg(), **gluoncv()}
    print(f"{'images a second, one core':28}" + "".join(f"{name:>18}" for name in makers))
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in BARS:
            seconds = measure(makers, write_pairs(Path(folder) / str(size), size))
            rates = {name: IMAGES / statistics.median(rounds) for name, rounds in seconds.items()}
            print(f"{size[0]:>5} x {size[1]:<20}" + "".join(f"{rate:>18.0f}" for rate in rates.values()))
            ratios[size] = statistics.median(np.divide(seconds[GLUONCV], seconds[THIS_PROJECT]))
        os.sched_setaffinity(0, cores)
        pairs = camvid() or write_pairs(Path(folder) / "check", (480, 360))
        share = check_over_epoch(pairs)
    results = [(f"input_{w}x{h}", ratio, BARS[w, h], ratio >= BARS[w, h]) for (w, h), ratio in ratios.items()]
    results.append(("input_check", share, CHECK_BAR, share < CHECK_BAR))
    for name, value, bar, ok in results:
        print(f"{name}: {value:.2f}, bar {bar:.2f}, {'ok' if ok else 'short'}")
    return int(not all(ok for *_, ok in results))


def measure(makers: dict[str, Make], pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """The seconds of each round over all pairs, without a first round for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for epoch in range(ROUNDS + 1):
        for name, make in makers.items():
            begin = time.perf_counter()
            for index, pair in enumerate(pairs):
                make(IndexedPair(epoch, index, pair))
            seconds[name].append(time.perf_counter() - begin)
    return {name: rounds[1:] for name, rounds in seconds.items()}


def semseg() -> Make:
    """Makes samples as a training does, without threads."""
    sampler = Sampler(LABEL_MAP, CROP, BASE, seed=0, workers=0)
    return lambda place: next(sampler.training([place], ahead=0))


def gluoncv() -> dict[str, Make]:
    """Makes samples as GluonCV's own data sets do, before normalisation."""
    runtime.load()
    from gluoncv.data.segbase import SegmentationDataset

    class Unchanged(SegmentationDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            self.crop_size, self.base_size = CROP, BASE

        def make(self, place: IndexedPair) -> tuple[Any, Any]:
            image = Image.open(path(place.pair.image)).convert("RGB")
            mask = Image.open(path(place.pair.mask))
            random.seed(f"0 {place.epoch} {place.index}")  # the same seed as Sampler
            return self._sync_transform(image, mask)  # type: ignore[no-any-return]

        def make_and_wait(self, place: IndexedPair) -> None:
            for array in self.make(place):
                array.wait_to_read()

    class ToUint8(Unchanged):
        def _img_transform(self, img: Image.Image) -> Any:
            return np.array(img)

        _mask_transform = _img_transform

    return {UINT8: ToUint8().make, GLUONCV: Unchanged().make_and_wait}


def path(file: object) -> Path:
    """The path of a file of a pair."""
    assert isinstance(file, LocalFile)
    return file.path


def write_pairs(folder: Path, size: tuple[int, int]) -> tuple[Pair, ...]:
    """Writes JPEG images (quality 90) and palette masks of a size, and lists them."""
    (folder / "train").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number, (image, mask) in enumerate(scenes()):
        width, height = image.size
        cut = min(height, round(width * size[1] / size[0]))
        box = (0, (height - cut) // 2, width, (height + cut) // 2)
        image.resize(size, Image.Resampling.BICUBIC, box).save(folder / f"train/{number}.jpg", quality=90)
        indices = mask.resize(size, Image.Resampling.NEAREST, box).convert("P")
        indices.putpalette([(37 * value) % 256 for value in range(768)])
        indices.save(folder / f"masks/{number}.png")
    return list_pairs("train", folder / "train", folder / "masks").pairs


def scenes() -> Iterator[tuple[Image.Image, Image.Image]]:
    """A few images (RGB) and masks (L) of 480 x 360."""
    pairs = camvid()
    for pair in pairs[:: len(pairs) // IMAGES][:IMAGES] if pairs else ():
        yield Image.open(path(pair.image)).convert("RGB"), Image.open(path(pair.mask))
    rng = np.random.default_rng(0)
    for _ in range(0 if pairs else IMAGES):
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)).resize((480, 360))
        image = np.asarray(shapes) + rng.normal(0, 12, (360, 480, 3))
        labels = Image.fromarray(rng.integers(0, 12, (9, 12)).astype(np.uint8)).resize((480, 360))
        yield Image.fromarray(image.clip(0, 255).astype(np.uint8)), labels


def camvid() -> tuple[Pair, ...]:
    """CamVid's training pairs; empty if CamVid is not available."""
    return list_pairs("train", CAMVID / "train", CAMVID / "train_annotation").pairs if CAMVID.is_dir() else ()


def check_over_epoch(pairs: tuple[Pair, ...]) -> float:
    """The duration of the check over that of loading one epoch; the median of a few rounds."""
    loader = TrainingLoader(pairs, Sampler(LABEL_MAP, CROP, BASE, seed=0, workers=WORKERS), BATCH)
    ratios = []
    for epoch in range(CHECK_ROUNDS):
        begin = time.perf_counter()
        check([(Listing("train", pairs, ()), LABEL_MAP)], WORKERS)
        middle = time.perf_counter()
        for _ in loader.epoch(epoch):
            pass
        ratios.append((middle - begin) / (time.perf_counter() - middle))
    return statistics.median(ratios)


if __name__ == "__main__":
    sys.exit(main())
