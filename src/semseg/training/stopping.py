"""Early stopping (algorithm.md section 1.6)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stops after `patience` consecutive epochs whose mIOU gained less than `tolerance`, relative to the best so far.

    An epoch that gains nothing never counts as improved. Never stops before `min_epochs` epochs are done, though the
    epochs before count towards `patience`.
    """

    min_epochs: int
    patience: int
    tolerance: float
    best: float = 0.0
    epochs: int = 0
    stale: int = 0

    def update(self, mean_iou: float) -> bool:
        """Takes an epoch's mIOU, 0 to 1, and says whether to stop."""
        self.epochs += 1
        gain = mean_iou - self.best
        improved = gain > 0 and gain >= self.tolerance * self.best
        self.stale = 0 if improved else self.stale + 1
        self.best = max(self.best, mean_iou)
        return self.stale >= self.patience and self.epochs >= self.min_epochs
