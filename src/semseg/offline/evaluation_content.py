"""The report on an evaluation: what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semseg.errors import count_of
from semseg.offline.combinations import Outcome
from semseg.offline.evaluate import Evaluation
from semseg.reporting.html.content import Figure, ReportContent, SampleGroup
from semseg.reporting.html.samples import Sample
from semseg.reporting.versions import versions
from semseg.types import Classes


def evaluation_content(
    outcomes: Sequence[Outcome], classes: Classes, worst: Sequence[Sample], settings: Mapping[str, str]
) -> ReportContent:
    """Returns the content of the report on the first evaluation of at least one; the others have a column each.

    worst: small copies of its images with the lowest mIOU. settings: what was evaluated.
    """
    (first, found), *others = [(one, one.result) for one in outcomes if isinstance(one.result, Evaluation)]
    numbers, failures = found.measures, [failure for outcome in outcomes for failure in outcome.failures()]
    columns = {f"IoU, {other.title}": [one.iou for one in result.measures.classes] for other, result in others}
    shares = [one.support / max(1, numbers.pixels) for one in numbers.classes]
    return ReportContent(
        kind="Evaluation",
        title=settings["model"],
        status=f"Evaluated on {_of_images(found)}.",
        classes=classes,
        figures=[
            Figure("mIOU", numbers.mean_all.iou, "all classes, absent ones as 0"),
            Figure("mIOU present", numbers.mean_present.iou if numbers.mean_present else None, "annotated classes"),
            Figure("Weighted IoU", numbers.frequency_weighted_iou, "by the pixels of each class"),
            Figure("Pixel accuracy", numbers.pixel_accuracy, f"of {numbers.pixels:,} pixels"),
            Figure("Boundary F1", found.boundary_mean, "annotated classes; contours within 0.75 % of the diagonal"),
        ],
        matrix=found.matrix,
        measured_on=f"{count_of(found.images, 'whole image')}, {first.title}",
        class_columns={"Boundary F1": found.boundary, **columns},
        shares={"annotations": shares},
        samples=[SampleGroup("With the lowest mIOU", "Of the classes in the annotation of the image.", worst)],
        notes=failures,
        settings={**settings, "evaluated with": first.title},
        settings_title="What was evaluated",
        versions=versions(),
    )


def _of_images(found: Evaluation) -> str:
    failed = f"; {len(found.failures)} could not be evaluated" if found.failures else ""
    return f"{count_of(found.images, 'image')}{failed}"
