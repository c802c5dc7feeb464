"""Opens a folder of images with a folder of annotations, to measure a model on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semseg.data.label_map import read_label_map
from semseg.data.label_map_files import find_label_map
from semseg.data.pairs import Pair, list_pairs
from semseg.data.report import Report
from semseg.data.samples import Sampler
from semseg.machine import usable_cores
from semseg.types import Classes


@dataclass(frozen=True)
class LabelledFolder:
    """Images and their annotations.

    pairs: sorted by name; sampler: reads them in full size; classes: what the label map or a file beside it, or the
    annotations, calls the classes.
    """

    pairs: tuple[Pair, ...]
    sampler: Sampler
    classes: Classes


def open_labelled(
    images: Path, annotations: Path, label_map: Path | None, num_classes: int, ending: str = ""
) -> LabelledFolder:
    """Lists the pairs of two folders, or of the folders in them if they have no files of their own.

    label_map: a JSON file for the masks; None for `label_map.json` in their folder, if there is one. ending: as
    `list_pairs` has it. Raises DataError for a file without a partner and for the label map, ChannelError for a folder
    that cannot be read.
    """
    listing = list_pairs("images", images, annotations, ending, of_user=True)
    Report((), listing.problems, ()).raise_problems()
    found = (
        read_label_map(label_map, num_classes)
        if label_map
        else find_label_map("annotations", annotations, None, num_classes)
    )
    # The sizes of crops are unused: images are whole.
    sampler = Sampler(found, crop_size=0, base_size=0, seed=0, workers=usable_cores(), checked=False)
    return LabelledFolder(listing.pairs, sampler, listing.classes(found))
