"""The events of a training run, and the protocol of the sinks that take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.types import Batch, UInt8


@dataclass(frozen=True)
class Step:
    """A batch is done and its loss known; the device may already be computing the next one.

    phase: `training` or `validation`. iteration: its number in the epoch, from 1, of `iterations` (None if unknown).
    samples: images in the batch. learning_rate: that of the update. loss: the criterion's value before the update, the
    mean over the images. The last two are None in validation.
    """

    epoch: int
    phase: str
    iteration: int
    iterations: int | None
    samples: int
    learning_rate: float | None
    loss: float | None


@dataclass(frozen=True)
class EpochTrained:
    """The training half of an epoch is done.

    iterations: their number. loss: the mean over these. learning_rate: the last one. waiting: the share of the time,
    0 to 1, spent waiting for data.
    """

    epoch: int
    iterations: int
    loss: float
    learning_rate: float
    samples_per_second: float
    waiting: float


@dataclass(frozen=True, eq=False)
class Compared:
    """A batch of the validation has been segmented. predicted: uint8 (N, H, W), class ids.

    The arrays are not copies: a sink that keeps some of them copies those.
    """

    epoch: int
    batch: Batch
    predicted: UInt8


@dataclass(frozen=True, eq=False)
class Counted:
    """All pixels of an epoch's validation are counted. matrix: from which the scores of `EpochValidated` follow."""

    epoch: int
    matrix: ConfusionMatrix


@dataclass(frozen=True)
class EpochValidated:
    """The validation half of an epoch is done.

    loss: cross entropy, the mean over the pixels that are not ignored. mean_iou: mIOU as in the built-in algorithm, the
    mean over all classes with absent ones as 0. mean_iou_present: the mean over the classes in the annotations; None if
    there are none. iou: of each class; None for one that is not in the annotations.
    """

    epoch: int
    loss: float
    pixel_accuracy: float
    mean_iou: float
    mean_iou_present: float | None
    iou: list[float | None]
    samples_per_second: float


@dataclass(frozen=True)
class EpochEnded:
    """Both halves of an epoch are done. epochs: the number to run; improved: whether its mIOU is the best so far."""

    trained: EpochTrained
    validated: EpochValidated
    epochs: int
    improved: bool

    @property
    def number(self) -> int:
        """The number of the epoch for people, from 1; all fields, and what programs read, count from 0."""
        return self.trained.epoch + 1


@dataclass(frozen=True)
class Resumed:
    """The run resumes from a checkpoint; always the first event. epochs: all that had ended before."""

    epochs: tuple[EpochEnded, ...]


@dataclass(frozen=True)
class Scored:
    """The best model has segmented the whole images of a split, as it will when served.

    split: `validation` or `test`. images: their number. The scores are those of `EpochValidated`.
    """

    split: str
    images: int
    pixel_accuracy: float
    mean_iou: float
    mean_iou_present: float | None
    iou: list[float | None]


@dataclass(frozen=True)
class ModelSaved:
    """The network's parameters are being saved in a file."""

    path: Path


@dataclass(frozen=True)
class Quantized:
    """An int8 network was compared with the f32 one on validation images.

    f32, int8: the mIOU of each as in `EpochValidated`, 0 to 1. images: their number. kept: whether int8 loses so little
    that it is added to the artifact.
    """

    f32: float
    int8: float
    images: int
    kept: bool


@dataclass(frozen=True)
class Stopping:
    """The run was asked to stop: no epoch follows, only what completes the model."""


@dataclass(frozen=True)
class Failed:
    """The run has failed; always the last event. reason: the error, in words."""

    reason: str


Event = (
    Step
    | EpochTrained
    | Compared
    | Counted
    | EpochValidated
    | EpochEnded
    | Resumed
    | Scored
    | ModelSaved
    | Quantized
    | Stopping
    | Failed
)
Emit = Callable[[Event], None]


class Sink(Protocol):
    """Takes the events of a run in order, until it is closed once, however the run ends."""

    def __call__(self, event: Event) -> None:
        """Handles an event, or ignores it if it does not concern this sink."""
        ...

    def close(self) -> None:
        """Finishes pending work; no event follows."""
        ...
