"""The progress of a training loop: together with the learner's state, all it needs to resume exactly."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated


@dataclass(frozen=True)
class Progress:
    """Completed epochs, and the completed part of the current one.

    ended: the completed epochs. In the current one, `iteration` iterations are done, on `samples` images, with losses
    that add up to `loss`; they took `seconds`, of which `waiting` were spent waiting for data. trained: set once all
    its iterations are done and validation comes next.
    """

    ended: tuple[EpochEnded, ...] = ()
    iteration: int = 0
    samples: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waiting: float = 0.0
    trained: EpochTrained | None = None

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0."""
        return len(self.ended)

    @property
    def updates(self) -> int:
        """The number of updates that the learner has made."""
        return sum(epoch.trained.iterations for epoch in self.ended) + self.iteration

    @property
    def best(self) -> float:
        """The highest mIOU of an epoch, 0 to 1; below 0 before the first has ended."""
        return max((epoch.validated.mean_iou for epoch in self.ended), default=-1.0)

    def stepped(self, loss: float, samples: int, seconds: float, waiting: float) -> Progress:
        """Returns the progress after one more iteration; seconds, waiting: totals of the epoch's training so far."""
        return dataclasses.replace(
            self,
            iteration=self.iteration + 1,
            samples=self.samples + samples,
            loss=self.loss + loss,
            seconds=seconds,
            waiting=waiting,
        )

    def to_json(self) -> str:
        """Returns text for `from_json`, which restores every number exactly."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """Returns the progress that `to_json` wrote. Raises ValueError for any other text."""
        try:
            progress: Progress = _read(cls.__name__, json.loads(text))
        except (KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not the progress of a training: {error!r:.200}") from error
        if min(progress.iteration, progress.samples, *(epoch.trained.iterations for epoch in progress.ended)) < 0:
            raise ValueError("not the progress of a training: a count is negative")
        return progress


BEGINNING = Progress()
"""The progress of a run before its first iteration."""

_CLASSES = {owner.__name__: owner for owner in (Progress, EpochEnded, EpochTrained, EpochValidated)}


def _read(kind: str, value: Any) -> Any:
    """Converts a value from JSON to a field's declared type, such as ``int`` or ``tuple[EpochEnded, ...]``."""
    if kind.endswith(" | None"):
        return None if value is None else _read(kind.removesuffix(" | None"), value)
    if kind.startswith("tuple["):
        return tuple(_read(kind[len("tuple[") : -len(", ...]")], item) for item in value)
    if kind.startswith("list["):
        return [_read(kind[len("list[") : -1], item) for item in value]
    if owner := _CLASSES.get(kind):
        return owner(**{field.name: _read(str(field.type), value[field.name]) for field in dataclasses.fields(owner)})
    return {"int": int, "float": float, "bool": bool}[kind](value)
