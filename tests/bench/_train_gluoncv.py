"""Takes turns at GluonCV's training, as in its scripts/segmentation/train.py: `_train_gluoncv.py FOLDER`.

Calls: 0, the seconds of a turn; 1, those of a turn of the lone convolution in MXNet.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from _train_data import BASE, BATCH, CLASSES, CROP, LONE, LONE_REPEATS, SIDE, STEPS, training_pairs
from _turns import answer, timed
from gluon_models import gluon_model
from PIL import Image

from semseg.data.files import LocalFile
from semseg.data.pairs import Pair
from semseg.engines.gluon import runtime

mx = runtime.load()


def gluoncv(pairs: Sequence[Pair]) -> Callable[[], None]:
    """Makes STEPS steps of GluonCV's loop: the eager network, two loader processes, a wait after each step."""
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

    return turn


def lone_convolution() -> Callable[[], None]:
    """Runs the convolution forward and backward, LONE_REPEATS times."""
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


def path(file: object) -> Path:
    """The path of a file of a pair."""
    assert isinstance(file, LocalFile)
    return file.path


if __name__ == "__main__":
    answer(partial(timed, gluoncv(training_pairs(Path(sys.argv[1])))), partial(timed, lone_convolution()))
