"""Measures the speed of training against GluonCV's loop, and the time spent waiting for data.

`train_speed`: images a second of FCN-ResNet50 over those of GluonCV's loop, as in its scripts/segmentation/train.py:
the eager network, two loader processes, a wait after each step. Both use batches of 4, crop 240, two compute threads,
the same files and their own process, and alternate after a few steps; the result is the median of the pairs.
`train_waiting`: the share of the steps' time spent waiting for data, in steps without a pause, because the loader would
get ahead in a pause.
`train_loader`: batches a second without training, over the rate of one thread without a loader (the bench `input`)
times the number of cores.
It also prints the GFLOP/s of a step over those of a lone 3 x 3 convolution, forward and backward, 512 to 512 channels,
on the 30 x 30 pixels of the last stage.

--pairs N: pairs of turns (7). The images are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid; without
them, generated ones.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from gluon_models import gluon_model, learner_from_scratch
from untrained import specification

os.environ["OMP_NUM_THREADS"] = "2"

import numpy as np
from PIL import Image

from semseg.data.files import LocalFile
from semseg.data.label_map import DEFAULT, parse_label_map
from semseg.data.loader import TrainingLoader
from semseg.data.pairs import Pair, list_pairs
from semseg.data.samples import IndexedPair, Sampler
from semseg.data.shapes import write_shapes
from semseg.engines.gluon import networks, runtime
from semseg.machine import keep_memory_flat, usable_cores
from semseg.training.recipe import MMAP_THRESHOLD

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEMSEG_CAMVID", ROOT / "../shared/data/camvid")).resolve()
CLASSES, CROP, BASE, BATCH, STEPS, LOADED = 12, 240, 520, 4, 4, 40
WARM_UP, LONG = 4, 20
PAUSE = 1.0
"""Seconds after a turn in which its loader refills its buffer, so that it does not slow down the next turn."""
LONE, SIDE, LONE_REPEATS = 512, 30, 4
LONE_GFLOP = 3 * 2 * 9 * LONE * LONE * BATCH * SIDE * SIDE / 1e9
SPEED_BAR, WAITING_BAR, LOADER_BAR = 1.10, 0.03, 0.80
SAMPLER = Sampler(parse_label_map(DEFAULT, CLASSES, "the label map"), CROP, BASE, seed=0, workers=16)
Turn = Callable[[], object]
Timed = Callable[[], float]


def main() -> int:
    """Runs the three parts; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    pairs_of_turns = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        pairs = training_pairs(Path(folder))
        loader = loader_over_cores(pairs)
        with in_process(gluoncv, pairs) as gluoncv_turn, in_process(semseg, pairs) as semseg_turn:
            turns = partial(gluoncv_turn, 0), partial(semseg_turn, 0), partial(gluoncv_turn, 1)
            for turn in turns:  # warms up
                paused(turn)
            seconds = np.array([[paused(turn) for turn in turns] for _ in range(pairs_of_turns)])
            waiting = semseg_turn(1)
    rates = STEPS * BATCH / np.median(seconds[:, :2], axis=0)
    print(f"images a second: GluonCV {rates[0]:.2f}, semseg {rates[1]:.2f}")
    gflop = STEPS * convolutions_gflop(), LONE_REPEATS * LONE_GFLOP
    reached, lone = (work / float(np.median(found)) for work, found in zip(gflop, seconds.T[1:], strict=True))
    print(f"GFLOP/s, forward and backward: {reached:.0f}, {reached / lone:.2f} of a lone convolution's {lone:.0f}")
    results = [("train_speed", float(np.median(seconds[:, 0] / seconds[:, 1])), SPEED_BAR)]
    results.append(("train_loader", loader, LOADER_BAR))
    for name, value, bar in results:
        print(f"{name}: {value:.2f}, bar {bar:.2f}, {'ok' if value >= bar else 'short'}")
    print(f"train_waiting: {waiting:.3f}, bar {WAITING_BAR:.3f}, {'ok' if waiting < WAITING_BAR else 'short'}")
    return int(waiting >= WAITING_BAR or any(value < bar for _, value, bar in results))


def timed(turn: Turn) -> float:
    """The seconds of a turn."""
    begin = time.perf_counter()
    turn()
    return time.perf_counter() - begin


def paused(turn: Timed) -> float:
    """The result of a turn, after a pause."""
    found = turn()
    time.sleep(PAUSE)
    return found


@contextmanager
def in_process(
    build: Callable[[Sequence[Pair]], Sequence[Timed]], pairs: Sequence[Pair]
) -> Iterator[Callable[[int], float]]:
    """Runs `build` in a new process; yields a function that calls the result with this number there."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_calls, args=(build, pairs, there))
    process.start()
    there.close()

    def call(number: int) -> float:
        here.send(number)
        found: float = here.recv()
        return found

    try:
        yield call
    finally:
        here.send(None)
        process.join()


def run_calls(build: Callable[[Sequence[Pair]], Sequence[Timed]], pairs: Sequence[Pair], connection: Any) -> None:
    """Runs what `build` returns, by numbers received, until None is received."""
    made = build(pairs)
    while (number := connection.recv()) is not None:
        connection.send(made[number]())


def semseg(pairs: Sequence[Pair]) -> Sequence[Timed]:
    """The seconds of STEPS steps of this project's training, and the share of waiting in LONG steps."""
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)  # as a job does
    batches = endless(pairs)
    learner = learner_from_scratch(specification("fcn", CLASSES))

    def step(batch: Any) -> None:
        float(learner.train_step(batch, 0.001, 0))

    def turn() -> None:
        for batch in islice(batches, STEPS):
            step(batch)

    def waiting() -> float:
        waited = 0.0
        for number in range(WARM_UP + LONG):
            if number == WARM_UP:
                waited, begin = 0.0, time.perf_counter()
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            step(batch)
        return waited / (time.perf_counter() - begin)

    return partial(timed, turn), waiting


def endless(pairs: Sequence[Pair], sampler: Sampler = SAMPLER) -> Iterator[Any]:
    """The batches of all epochs, without end."""
    loader = TrainingLoader(pairs, sampler, BATCH)
    return chain.from_iterable(map(loader.epoch, count()))


def gluoncv(pairs: Sequence[Pair]) -> Sequence[Timed]:
    """The seconds of STEPS steps of GluonCV's loop, and of LONE_REPEATS lone convolutions."""
    mx = runtime.load()
    multiprocessing.set_start_method("fork", force=True)  # for its loader's processes, as by default on Linux
    from gluoncv.data.segbase import SegmentationDataset
    from gluoncv.loss import MixSoftmaxCrossEntropyLoss

    class Files(SegmentationDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            self.crop_size, self.base_size = CROP, BASE
            transforms = mx.gluon.data.vision.transforms
            means, deviations = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
            self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(means, deviations)])

        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image, mask = (Image.open(path(file)) for file in (pairs[index].image, pairs[index].mask))
            crop, labels = self._sync_transform(image.convert("RGB"), mask)
            return self.transform(crop), labels

    network = gluon_model("fcn", "resnet-50", CLASSES, mx.cpu())
    network._up_kwargs = {"height": CROP, "width": CROP}
    criterion = MixSoftmaxCrossEntropyLoss(True, aux_weight=0.5)
    trainer = mx.gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": 0.001, "momentum": 0.9, "wd": 1e-4})
    loader = mx.gluon.data.DataLoader(Files(), BATCH, shuffle=True, last_batch="rollover", num_workers=2)
    batches = chain.from_iterable(loader for _ in count())

    def turn() -> None:
        for images, labels in islice(batches, STEPS):
            with mx.autograd.record():
                losses = criterion(*network(images), labels)
                mx.nd.waitall()
                losses.backward()
            trainer.step(BATCH)
            mx.nd.waitall()

    return partial(timed, turn), partial(timed, lone_convolution())


def lone_convolution() -> Turn:
    """Runs the convolution forward and backward, LONE_REPEATS times."""
    mx = runtime.load()
    convolution = mx.gluon.nn.Conv2D(LONE, 3, padding=1, use_bias=False, in_channels=LONE)
    convolution.initialize()
    x = mx.nd.random.normal(shape=(BATCH, LONE, SIDE, SIDE))
    x.attach_grad()

    def turn() -> None:
        for _ in range(LONE_REPEATS):
            with mx.autograd.record():
                y = convolution(x)
            y.backward()
        mx.nd.waitall()

    return turn


def convolutions_gflop() -> float:
    """GFLOP of a step's convolutions: forward, and the gradients of weights and (except in the first one) inputs."""
    mx = runtime.load()
    network = networks.LowResolutionLogits(gluon_model("fcn", "resnet-50", CLASSES, mx.cpu()), aux=True)
    graph = mx.sym.Group(network(mx.sym.Variable("data")))
    values = graph.get_internals()
    shapes = dict(zip(values.list_outputs(), values.infer_shape(data=(BATCH, 3, CROP, CROP))[1], strict=True))
    nodes = json.loads(graph.tojson())["nodes"]
    convolutions: list[int] = [
        2 * math.prod(shapes[f"{node['name']}_output"]) * math.prod(shapes[nodes[node["inputs"][1][0]]["name"]][1:])
        for node in nodes
        if node["op"] == "Convolution"
    ]
    return (3 * sum(convolutions) - convolutions[0]) / 1e9


def loader_over_cores(pairs: Sequence[Pair]) -> float:
    """The speed of the loader without training, over that of one thread without a loader, per core."""
    alone = Sampler(SAMPLER.label_map, CROP, BASE, seed=0, workers=0)
    batches = endless(pairs)
    next(batches)
    ratios = []
    for number in range(3):
        places = (IndexedPair(number, index, pair) for index, pair in enumerate(islice(pairs, LOADED)))
        one = timed(partial(deque, alone.training(places, ahead=0), 0))
        all_cores = timed(partial(deque, islice(batches, LOADED // BATCH), 0))
        ratios.append(one / all_cores / usable_cores())
    return statistics.median(ratios)


def path(file: object) -> Path:
    """The path of a file of a pair."""
    assert isinstance(file, LocalFile)
    return file.path


def training_pairs(folder: Path) -> tuple[Pair, ...]:
    """CamVid's training pairs, or generated ones of the same size."""
    data = CAMVID
    if not data.is_dir():
        data = folder
        write_shapes(data, train=LOADED, validation=1, size=(480, 360), seed=0)
    return list_pairs("train", data / "train", data / "train_annotation").pairs


if __name__ == "__main__":
    sys.exit(main())
