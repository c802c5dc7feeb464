"""The criteria for rare classes as plain formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.types import IGNORED

Float64 = NDArray[np.float64]


def balanced_loss(kind: str, class_weights: Float64, logits: Float64, labels: NDArray[Any]) -> float:
    """One head's loss. kind: `cross_entropy`, `focal` or `dice+ce`; logits (N, C, H, W), labels (N, H, W)."""
    truths, classes = labels.ravel(), logits.shape[1]
    known = truths != IGNORED
    truth = truths[known].astype(int)
    scores = np.exp(logits).transpose(0, 2, 3, 1).reshape(-1, classes)
    found = (scores / scores.sum(1, keepdims=True))[known]
    likely = found[np.arange(len(truth)), truth]
    missed = (1 - likely) ** 2 if kind == "focal" else 1
    value = -(class_weights[truth] * missed * np.log(likely)).sum() / class_weights[truth].sum()
    if kind == "dice+ce":
        shown = np.eye(classes)[truth]
        dice = (2 * (found * shown).sum(0) + 1) / (found.sum(0) + shown.sum(0) + 1)
        value += (class_weights * (1 - dice)).sum() / class_weights.sum()
    return float(value)
