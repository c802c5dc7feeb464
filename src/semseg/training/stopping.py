"""The rule for early stopping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class EarlyStopping:
    """Stops after `patience` consecutive epochs whose mIOU gained less than `tolerance`, relative to the best so far.

    A patience of 0 means 1. An epoch without any gain never counts as an improvement. Training never stops before
    `min_epochs` epochs are done, but these count towards `patience`.
    """

    min_epochs: int
    patience: int
    tolerance: float

    def ends(self, curve: Iterable[float]) -> bool:
        """Whether to stop after epochs with these mIOUs, 0 to 1, starting with the first epoch."""
        best, epochs, stale = 0.0, 0, 0
        for mean_iou in curve:
            epochs += 1
            gain = mean_iou - best
            improved = gain > 0 and gain >= self.tolerance * best
            stale = 0 if improved else stale + 1
            best = max(best, mean_iou)
        return stale >= max(self.patience, 1) and epochs >= self.min_epochs
