"""Semantic segmentation in a container: train and serve FCN, PSP and DeepLabV3, as the SageMaker built-in did.

    import semseg

    semseg.train(train="images", train_annotation="masks", split=0.2, num_classes=4, job="job")
    model = semseg.load("job")
    result = model.predict("street.jpg")
    result.mask, result.probabilities, result.confidence, result.overlay()
    result.save("street.png")
    semseg.evaluate(model, "images", "masks").measures.mean_all.iou

Nothing else is imported until one of these functions is called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from semseg.version import __version__ as __version__

if TYPE_CHECKING:
    from pathlib import Path

    from semseg.offline.evaluate import Evaluation
    from semseg.offline.model import Model

__all__ = ["__version__", "evaluate", "load", "train"]


def load(
    model: str | os.PathLike[str],
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    scale: str = "model",
) -> Model:
    """Load a model: its folder, the folder of a job, a model.tar.gz, or one of them as s3://bucket/prefix.

    engine: auto, mxnet, openvino or torch; precision: auto, f32, bf16 or int8; device: auto, cpu or gpu; scale: the
    size at which the network gets images, model (as the model says), none (their own), base (about that of the
    training) or a factor. Raises ArtifactError, UserError and DeviceError, which say what is wrong and how to mend it.
    """
    from semseg.offline import model as models

    return models.load(os.fspath(model), engine, precision, device, scale)


def evaluate(
    model: Model | str | os.PathLike[str],
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    label_map: str | os.PathLike[str] | None = None,
    suffix: str = "",
) -> Evaluation:
    """Measure a model on a folder of images and a folder of their masks, as `semseg evaluate` does.

    label_map: a JSON file, by default label_map.json among the masks, or else that of the model's training; suffix:
    what the names of masks have after those of their images, such as ``_L``. Raises DataError, ChannelError and
    UserError.
    """
    from pathlib import Path

    from semseg.data.labelled_folder import open_labelled
    from semseg.offline import evaluate as evaluation
    from semseg.offline import model as models

    loaded = model if isinstance(model, models.Model) else load(model)
    masks = None if label_map is None else Path(label_map)
    trained = loaded.description.label_maps
    folder = open_labelled(Path(images), Path(annotations), masks, loaded.num_classes, suffix, trained)
    return evaluation.evaluate(loaded, folder, loaded.scale, lambda: None)


def train(*, job: str | os.PathLike[str] = "job", **options: object) -> Path:
    """Run `semseg train` with these options in a process of its own, print its log, and return the job's folder.

    options: those of the command, with underscores: channels such as `train` and `train_annotation`, hyperparameters
    such as `num_classes`, `overwrite=True`. An interrupt (Ctrl-C) saves the training, which the same call resumes.
    Raises UserError with the reason if the training fails.
    """
    from semseg.training.process import run_training

    return run_training(os.fspath(job), options)
