"""`semseg quantize`: makes an artifact's int8 network, calibrated and compared on the images of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from semseg.artifact.gate import Gate
from semseg.artifact.model_dir import INT8, ModelDescription, describe
from semseg.codecs.images import decode_image
from semseg.data.files import File, naming
from semseg.data.labelled_folder import list_images, open_labelled
from semseg.data.loader import ValidationLoader
from semseg.data.pairs import Item, Pair, evenly
from semseg.data.samples import Sampler
from semseg.errors import DataError
from semseg.exporting.int8 import CALIBRATION_IMAGES, VALIDATION_IMAGES, quantize
from semseg.files import require_writable
from semseg.inference.scoring import Labelled
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER


def quantize_folder(
    directory: Path, images: Path, annotations: Path | None = None, label_map: Path | None = None, suffix: str = ""
) -> Gate:
    """Write model_int8.onnx into a model directory if it passes its gate, else remove it. Returns the gate.

    images: a folder of at least two images; at most CALIBRATION_IMAGES and half of them calibrate, and at most
    VALIDATION_IMAGES of the others are the gate's. annotations: a folder of masks; without it the f32 network's own
    prediction counts as the truth, and every pixel that changes as an error. label_map: a JSON file for the masks;
    without it `label_map.json` in their folder, or else that of the model's training. suffix: what the names of masks
    have after those of their images, such as `_L`.
    Raises ArtifactError for the model, DataError for images and masks, and OSError, before the work if the file cannot
    be written; the file is unchanged then.
    """
    model = describe(directory)
    require_writable(directory / INT8)
    if annotations is None:
        return _quantize(directory, model, list_images(images), _unlabelled)
    folder = open_labelled(images, annotations, label_map, model.num_classes, suffix, model.label_maps)
    LOGGER.info("The annotations are read by %s.", folder.reading, extra=FOR_PEOPLE)
    return _quantize(directory, model, folder.pairs, lambda pairs: _labelled(pairs, folder.sampler))


def _quantize(
    directory: Path,
    model: ModelDescription,
    items: Sequence[Item],
    read: Callable[[Sequence[Item]], Iterable[Labelled]],
) -> Gate:
    if len(items) < 2:
        raise DataError(
            f"int8 needs at least two images, one to calibrate, another to compare, not {len(items)}.",
            "Give more images.",
        )
    chosen = evenly(range(len(items)), min(CALIBRATION_IMAGES, len(items) // 2))
    calibration = [items[index] for index in chosen]
    others = [item for index, item in enumerate(items) if index not in chosen]
    validation = evenly(others, VALIDATION_IMAGES)
    return quantize(model, directory / INT8, (image for image, _ in read(calibration)), lambda: read(validation))


def _unlabelled(files: Sequence[File]) -> Iterator[Labelled]:
    for file in files:
        with naming(file):
            image = decode_image(file.read())
        yield image, None


def _labelled(pairs: Sequence[Pair], sampler: Sampler) -> Iterator[Labelled]:
    for batch in ValidationLoader(pairs, sampler, batch_size=1).epoch(0):
        yield batch.images[0], batch.labels[0]
