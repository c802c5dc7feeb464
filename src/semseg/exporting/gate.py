"""Measures what int8 costs a network: its mIOU with and without int8, on the same images and the same engine."""

from __future__ import annotations

from collections.abc import Iterable

from semseg.artifact.gate import Gate
from semseg.inference.predictor import Predictor
from semseg.inference.scoring import Labelled, score_pairs


def compare(f32: Predictor, int8: Predictor, pairs: Iterable[Labelled]) -> Gate:
    """Return the gate of whole images, segmented as in serving; without labels, what f32 says counts as the truth."""
    (exact, rounded), images = score_pairs([f32, int8], pairs)
    return Gate(exact.mean_iou(), rounded.mean_iou(), images)
