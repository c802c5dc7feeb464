"""What happens in training, as values, and what takes them: sinks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Step:
    """A batch is done, and its loss known: a device may be at the next one by then.

    phase: `training` or `validation`; iteration: its number in the epoch, from 1, of `iterations`, as far as known;
    samples: images in the batch; learning_rate: that of the update; loss: the criterion's value before the update, the
    mean over the images. Validation has neither of these two: they are None.
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
    """The training half of an epoch: how many iterations it had, their mean loss, the last learning rate, the speed.

    waiting: the share of its time, 0 to 1, that passed waiting for data.
    """

    epoch: int
    iterations: int
    loss: float
    learning_rate: float
    samples_per_second: float
    waiting: float


@dataclass(frozen=True)
class EpochValidated:
    """The validation half of an epoch.

    loss: cross entropy, the mean over the pixels that count; mean_iou: the original's mIOU, over all classes, absent
    ones counted as 0; mean_iou_present: over the classes the annotations show (None if they show none); iou: per class,
    None where the annotations do not show it.
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
    """Both halves of an epoch are done; `improved` says whether its mIOU is the best so far."""

    trained: EpochTrained
    validated: EpochValidated
    epochs: int
    improved: bool


@dataclass(frozen=True)
class Resumed:
    """A run goes on from a checkpoint: these epochs, from the first on, had ended before. It is the first event."""

    epochs: tuple[EpochEnded, ...]


@dataclass(frozen=True)
class Scored:
    """The best model has segmented whole pictures, as it will be served, of `validation` or `test`.

    The measures are those of `EpochValidated`.
    """

    split: str
    images: int
    pixel_accuracy: float
    mean_iou: float
    mean_iou_present: float | None
    iou: list[float | None]


@dataclass(frozen=True)
class ModelSaved:
    """The parameters of the network are in a file."""

    path: Path


@dataclass(frozen=True)
class Quantized:
    """An int8 network was compared with the f32 one on so many validation pictures.

    f32, int8: the original's mIOU, 0 to 1; kept: whether int8 loses so little that it is in the artifact.
    """

    f32: float
    int8: float
    images: int
    kept: bool


Event = Step | EpochTrained | EpochValidated | EpochEnded | Resumed | Scored | ModelSaved | Quantized
Emit = Callable[[Event], None]


class Sink(Protocol):
    """Takes the events of a run in their order, until it is closed: once, however the run ends."""

    def __call__(self, event: Event) -> None:
        """Takes an event; those of no concern to this sink it passes over."""
        ...

    def close(self) -> None:
        """Ends what it has under way: no event comes any more."""
        ...
