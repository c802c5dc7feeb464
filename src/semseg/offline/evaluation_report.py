"""Writes what was measured of a model: as text, as JSON, as a report, and as images of what it does worst."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg.codecs.images import encode_image
from semseg.codecs.palettes import model_palette
from semseg.data.labelled_folder import LabelledFolder
from semseg.data.samples import Sampler
from semseg.errors import one_line
from semseg.files import replacing, require_writable
from semseg.offline.combinations import Outcome
from semseg.offline.evaluate import Evaluation
from semseg.offline.evaluation_content import evaluation_content
from semseg.offline.outputs import writing_results
from semseg.offline.worst import WorstImage, panels
from semseg.reporting.html.render import FILE as REPORT
from semseg.reporting.html.render import write_report
from semseg.reporting.html.samples import Sample, sample
from semseg.reporting.tables import table
from semseg.reporting.width import clipped
from semseg.types import Classes, UInt8

FILE = "evaluation.json"
WORST = "worst"
_NAME_COLUMNS = 24
_STEM_BYTES = 200
"""The longest part of an image's name in the name of a file, which may have 255 bytes."""


def as_text(outcomes: Sequence[Outcome], titles: Sequence[str]) -> str:
    """Returns a table of the classes in the first evaluation, and one line for each evaluation.

    Both have at most 80 columns, unless a name is long. titles: what to call each class.
    """
    evaluated = [(one, one.result) for one in outcomes if isinstance(one.result, Evaluation)]
    if not evaluated:
        return ""
    rows = [["engine", "precision", "scale", "mIOU", "present", "weighted", "accuracy", "boundary", "ms"]]
    for one, found in evaluated:
        present = found.measures.mean_present
        rows.append(
            [
                one.combination.engine,
                one.combination.precision,
                one.combination.scale,
                _share(found.measures.mean_all.iou),
                _share(present.iou if present else None),
                _share(found.measures.frequency_weighted_iou),
                _share(found.measures.pixel_accuracy),
                _share(found.boundary_mean),
                f"{1000 * found.seconds:.4g}",
            ]
        )
    return "\n\n".join([_class_table(evaluated[0][1], titles), table(rows, "<<<" + ">" * 6)])


def _class_table(found: Evaluation, titles: Sequence[str]) -> str:
    rows = [["class", "IoU", "precision", "recall", "F1", "boundary F1", "pixels", "%"]]
    for label, (one, title) in enumerate(zip(found.measures.classes, titles, strict=True)):
        shares = [one.iou, one.precision, one.recall, one.f1, found.boundary[label]]
        percent = f"{100 * one.support / max(1, found.measures.pixels):.2f}"
        name = f"{label:3} {clipped(one_line(title), _NAME_COLUMNS)}"
        rows.append([name, *map(_share, shares), f"{one.support:,}", percent])
    for name, means, boundary in (
        ("mean, present", found.measures.mean_present, found.boundary_mean),
        ("mean, all", found.measures.mean_all, None),
    ):
        values = [means.iou, means.precision, means.recall, means.f1] if means else [None] * 4
        rows.append([name, *map(_share, [*values, boundary]), "", ""])
    absent = sum(one.iou is None for one in found.measures.classes)
    note = f"\nNot annotated: {absent} of {len(titles)} classes, which the mean over all counts as 0." if absent else ""
    return table(rows, "<" + ">" * 7) + note


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def require_place(directory: Path) -> None:
    """Creates a directory for `write` if necessary. Raises UserError if nothing can be written there."""
    with writing_results(directory):
        require_writable(directory / FILE)


def write(
    directory: Path, outcomes: Sequence[Outcome], classes: Classes, folder: LabelledFolder, settings: Mapping[str, str]
) -> None:
    """Writes `evaluation.json` and, of the first evaluation, `report.html` and the images with the lowest mIOU.

    The directory is created if necessary. settings: what was evaluated, which JSON and report show too. Shares in JSON
    are 0 to 1, and null where there is no value; confusion_matrix has pixels by annotated class (row) and predicted
    class (column). Raises OSError, and DataError if an image is gone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = {**settings, "evaluations": [_as_object(one, classes.titles) for one in outcomes]}
    with replacing(directory / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    found = next((one.result for one in outcomes if isinstance(one.result, Evaluation)), None)
    if found:
        samples = _write_worst(directory / WORST, found.worst, folder.sampler, model_palette(classes))
        write_report(evaluation_content(outcomes, classes, samples, settings), directory / REPORT)


def _as_object(one: Outcome, titles: Sequence[str]) -> dict[str, Any]:
    combination = {
        "engine": one.combination.engine,
        "precision": one.combination.precision,
        "scale": one.combination.scale,
    }
    found = one.result
    if not isinstance(found, Evaluation):
        return combination | {"error": str(found)}
    numbers: dict[str, Any] = found.measures.as_json(titles)
    for entry, boundary in zip(numbers["classes"], found.boundary, strict=True):
        entry["boundary_f1"] = boundary
    return combination | {
        "images": found.images,
        "failed": list(found.failures),
        "seconds_per_image": found.seconds,
        **numbers,
        "boundary_f1": found.boundary_mean,
        "confusion_matrix": found.matrix.counts.tolist(),
        "worst": [
            {
                "image": worst.pair.image.name,
                "mean_iou": worst.mean_iou,
                "pixel_accuracy": worst.pixel_accuracy,
                "file": f"{WORST}/{_file_name(number, worst)}",
            }
            for number, worst in enumerate(found.worst, 1)
        ],
    }


def _write_worst(directory: Path, images: Sequence[WorstImage], sampler: Sampler, colours: UInt8) -> list[Sample]:
    """Writes images with their annotations, predictions and errors as PNG files, and removes those of earlier calls.

    Returns small copies of them.
    """
    directory.mkdir(exist_ok=True)
    for earlier in directory.glob("[0-9][0-9]_*.png"):
        earlier.unlink()
    samples = []
    for number, worst in enumerate(images, 1):
        parts = worst.read(sampler)
        with replacing(directory / _file_name(number, worst)) as temporary:
            temporary.write_bytes(encode_image(panels(*parts, colours)))
        samples.append(sample(f"{worst.pair.image.name}, mIOU {worst.mean_iou:.4f}", *parts))
    return samples


def _file_name(number: int, worst: WorstImage) -> str:
    stem = Path(worst.pair.image.name).stem.encode()[:_STEM_BYTES].decode(errors="ignore")
    return f"{number:02}_{stem}.png"
