"""What the report shows of a validation, and a file that hands it from one process of a run to another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.files import replacing
from semseg.reporting.html.samples import Sample


@dataclass(frozen=True, eq=False)
class Validation:
    """The number of an epoch, from 0, the matrix of its validation, and images: always the same, and the worst."""

    epoch: int
    matrix: ConfusionMatrix
    same: tuple[Sample, ...]
    worst: tuple[Sample, ...]

    @property
    def number(self) -> int:
        """The number of the epoch for people, from 1."""
        return self.epoch + 1


def save_validation(validation: Validation, path: Path) -> None:
    """Writes a validation atomically, as NumPy's .npz. Raises DiskFullError and OSError."""
    samples = [*validation.same, *validation.worst]
    stated = {
        "epoch": validation.epoch,
        "same": len(validation.same),
        "samples": [(sample.name, sample.wrong) for sample in samples],
    }
    arrays = {"stated": np.array(json.dumps(stated)), "matrix": validation.matrix.counts}
    for number, sample in enumerate(samples):
        arrays |= {
            f"image {number}": sample.image,
            f"labels {number}": sample.labels,
            f"predicted {number}": sample.predicted,
        }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_validation(path: Path) -> Validation:
    """Returns the validation that `save_validation` has written. Raises OSError."""
    with np.load(path, allow_pickle=False) as arrays:
        stated = json.loads(str(arrays["stated"]))
        matrix = ConfusionMatrix(len(arrays["matrix"]))
        matrix.counts += arrays["matrix"]
        samples = tuple(
            Sample(name, arrays[f"image {number}"], arrays[f"labels {number}"], arrays[f"predicted {number}"], wrong)
            for number, (name, wrong) in enumerate(stated["samples"])
        )
    return Validation(stated["epoch"], matrix, samples[: stated["same"]], samples[stated["same"] :])
