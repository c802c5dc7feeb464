"""`semseg quantize`: an int8 network for an artifact, calibrated and compared on the pictures of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from semseg.artifact.gate import Gate
from semseg.artifact.model_dir import INT8, ModelDescription, describe
from semseg.codecs.images import decode_image
from semseg.data.files import File, naming
from semseg.data.label_map import find_label_map, read_label_map
from semseg.data.loader import ValidationLoader
from semseg.data.pairs import Item, Pair, evenly, list_images, list_pairs
from semseg.data.report import Report
from semseg.data.samples import Sampler
from semseg.errors import DataError
from semseg.exporting.int8 import CALIBRATION_PICTURES, VALIDATION_PICTURES, quantize
from semseg.inference.scoring import Labelled
from semseg.machine import usable_cores


def quantize_folder(
    directory: Path, images: Path, annotations: Path | None = None, label_map: Path | None = None
) -> Gate:
    """Write model_int8.onnx into a model directory if it passes its gate, else remove it. Returns the gate.

    images: a folder of two pictures at least; up to CALIBRATION_PICTURES, half of them at most, calibrate, and of the
    others up to VALIDATION_PICTURES are the gate's. annotations: a folder of masks; without it what the network itself
    says in f32 is taken for the truth, and every pixel that changes counts as lost. label_map: a JSON file for the
    masks; without it `label_map.json` among them, if there is one.
    Raises ArtifactError for the model, DataError for pictures and masks, and OSError; the file then stays as it was.
    """
    model = describe(directory)
    if annotations is None:
        return _quantize(directory, model, list_images(images), _unlabelled)
    listing = list_pairs("images", images, annotations)
    Report((), listing.problems, ()).raise_problems()
    found = (
        read_label_map(label_map, model.num_classes)
        if label_map
        else find_label_map("annotations", annotations, None, model.num_classes)
    )
    sampler = Sampler(
        found, crop_size=0, base_size=0, seed=0, workers=usable_cores(), checked=False
    )  # whole: sizes are unused
    return _quantize(directory, model, listing.pairs, lambda pairs: _labelled(pairs, sampler))


def _quantize(
    directory: Path,
    model: ModelDescription,
    items: Sequence[Item],
    read: Callable[[Sequence[Item]], Iterable[Labelled]],
) -> Gate:
    if len(items) < 2:
        raise DataError("int8 needs two pictures at least: one to calibrate, another to compare.", "Give more of them.")
    places = evenly(range(len(items)), min(CALIBRATION_PICTURES, len(items) // 2))
    calibration = [items[place] for place in places]
    others = [item for place, item in enumerate(items) if place not in places]
    validation = evenly(others, VALIDATION_PICTURES)
    return quantize(model, directory / INT8, (picture for picture, _ in read(calibration)), lambda: read(validation))


def _unlabelled(files: Sequence[File]) -> Iterator[Labelled]:
    for file in files:
        with naming(file):
            picture = decode_image(file.read())
        yield picture, None


def _labelled(pairs: Sequence[Pair], sampler: Sampler) -> Iterator[Labelled]:
    for batch in ValidationLoader(pairs, sampler, batch_size=1).epoch(0):
        yield batch.images[0], batch.labels[0]
