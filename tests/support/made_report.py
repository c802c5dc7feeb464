"""Reports of invented trainings, of any number of epochs and classes."""

from __future__ import annotations

from functools import cache

import numpy as np

from semseg.data.shapes import draw
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated
from semseg.reporting.html.content import Figure, ReportContent, SampleGroup
from semseg.reporting.html.samples import Sample, sample
from semseg.types import IGNORED, Classes, UInt8

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'names' &amp;"
"""A name that must stay text."""


def made_epochs(count: int, classes: int, seed: int = 0) -> list[EpochEnded]:
    """Epochs whose losses fall and whose mIOU rises, roughly."""
    rng = np.random.default_rng(seed)
    ended: list[EpochEnded] = []
    best = -1.0
    for epoch in range(count):
        progress = 1 - float(np.exp(-4 * (epoch + 1) / count))
        mean_iou = 0.62 * progress + float(rng.normal(0, 0.01))
        iou: list[float] = np.clip(mean_iou + rng.normal(0, 0.15, classes), 0, 1).tolist()
        trained = EpochTrained(epoch, 91, 2.6 - 2 * progress, 0.001 * (1 - epoch / count) ** 0.9, 11.4, 0.01)
        validated = EpochValidated(
            epoch, 2.4 - 1.7 * progress, 0.55 + 0.4 * progress, mean_iou, mean_iou * 1.1, [*iou], 24.0
        )
        ended.append(EpochEnded(trained, validated, count, mean_iou > best))
        best = max(best, mean_iou)
    return ended


def made_matrix(classes: int, seed: int = 0) -> ConfusionMatrix:
    """A matrix that is mostly right, of classes from frequent to rare; of more than two, the last is absent."""
    rng = np.random.default_rng(seed)
    matrix = ConfusionMatrix(classes)
    frequency = 1e6 / np.arange(1, classes + 1)
    right = rng.uniform(0.3, 0.95, classes)
    spread = rng.dirichlet(np.full(classes, 0.08), classes) * (1 - right)[:, None] + np.diag(right)
    matrix.counts += (spread * frequency[:, None]).astype(np.int64)
    if classes > 2:
        matrix.counts[-1] = 0
    return matrix


@cache
def _drawn(count: int) -> list[tuple[UInt8, UInt8]]:
    rng = np.random.default_rng(0)
    return [draw((240, 180), rng) for _ in range(count)]


def made_samples(count: int, classes: int) -> list[Sample]:
    """Images of shapes with rough predictions."""
    rng = np.random.default_rng(0)
    found = []
    for number, (image, shapes) in enumerate(_drawn(count)):
        labels = (shapes % classes).astype(np.uint8)
        predicted = np.roll(labels, rng.integers(-12, 12, 2), (0, 1))
        labels[:6] = IGNORED
        found.append(sample(f"validation/{number:04}.jpg", image, labels, predicted))
    return found


def made_classes(count: int, names: tuple[str, ...] = ()) -> Classes:
    """Classes without colours, of which the first have these names."""
    return Classes((*names, *[None] * (count - len(names))), (None,) * count)


def made_report(epochs: int, classes: int, names: tuple[str, ...] = (), failure: str = "") -> ReportContent:
    """A whole report; names: of the first classes."""
    ended = made_epochs(epochs, classes)
    matrix, samples = made_matrix(classes), made_samples(8, classes)
    best = max(ended, key=lambda epoch: epoch.validated.mean_iou)
    shares = matrix.counts.sum(axis=1) / matrix.counts.sum()
    return ReportContent(
        kind="Training report",
        title="FCN on ResNet-50",
        status=f"All {epochs} epochs are done.",
        failure=failure,
        classes=made_classes(classes, names),
        figures=[
            Figure("Best mIOU", best.validated.mean_iou, f"epoch {best.trained.epoch}"),
            Figure("mIOU, whole images", 0.5871, "101 images of validation"),
            Figure("Pixel accuracy", best.validated.pixel_accuracy, f"epoch {best.trained.epoch}"),
            Figure("Validation loss", best.validated.loss, f"epoch {best.trained.epoch}"),
        ],
        epochs=ended,
        matrix=matrix,
        measured_on=f"epoch {best.trained.epoch}, the best, on the validation crops",
        class_columns={"IoU, whole images": best.validated.iou},
        shares={"train": shares.tolist(), "validation": shares[::-1].tolist()},
        samples=[
            SampleGroup("The same in every epoch", "Chosen by the hashes of their names.", samples[:4]),
            SampleGroup("With the most errors", "Of the images of this validation.", samples[4:]),
        ],
        notes=["Training happens at 42 to 167 % of the images' size; they are served at 100 %."],
        settings={
            "algorithm": "fcn",
            "backbone": "resnet-50",
            "_class_weights": "0.5, 25",
            "num_classes": str(classes),
        },
        versions={"semseg-container": "0.1.0", "Python": "3.11.7", "numpy": "1.23.5"},
    )
