"""Finds, fetches and reads the files of pretrained backbones: GluonCV's own, or imported ones."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from semseg.codecs.params import read_params
from semseg.errors import ArtifactError, HyperparameterError, WeightsError
from semseg.machine import is_own
from semseg.networks import store
from semseg.networks.definitions import Backbone
from semseg.networks.parameters import backbone_table, require_fit
from semseg.networks.store import StoredFile
from semseg.types import Arrays

TRAINING_TIMEOUT = 20.0
"""Seconds that a training waits for the download of a backbone."""

BUILD_TIMEOUT = 600.0
"""Seconds that the build of a container image waits for it."""

GLUON_STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
"""GluonCV's store of model files (gluoncv.model_zoo.model_store); `MXNET_GLUON_REPO` names another."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """The weights of a backbone, trained on ImageNet.

    gluon: GluonCV's name; sha1: of GluonCV's file, in hexadecimal; timm: timm's name of its port.
    """

    gluon: str
    sha1: str
    timm: str


PRETRAINED = {
    "resnet-50": Pretrained("resnet50_v1s", "25a187fa281ddc98afbcd0cc0f0646885b874b80", "resnet50s.gluon_in1k"),
    "resnet-101": Pretrained("resnet101_v1s", "bd93a83c05f709a803b1221aeff0b028e6eebb03", "resnet101s.gluon_in1k"),
}
"""By the backbone's name; the SHA-1 values are those of gluoncv.model_zoo.model_store."""


def read_backbone(path: Path, backbone: Backbone) -> Arrays:
    """Return the parameters of a backbone, by name, as read-only views of its mapped file; other arrays are ignored.

    Raises ArtifactError, naming the file, if it is damaged or its names, shapes or dtypes are not the backbone's. This
    can only happen with an imported file, since GluonCV's are checked by their SHA-1.
    """
    try:
        arrays = read_params(path)
    except ArtifactError as error:
        raise ArtifactError(error.message, "Make it again with `semseg import-weights`, or remove it.") from error
    table = backbone_table(backbone)
    wanted = {name: array for name, array in arrays.items() if name in table}
    require_fit(table, wanted, str(path))
    return wanted


def fetch_backbone(name: str) -> Path:
    """Fetch GluonCV's file of a backbone into the models folder, unless it is there already, and return its path.

    Raises WeightsError, with the reason, if it is unavailable.
    """
    file, folder = stored_file(name), store.models_folder()
    if store.fault(folder / file.name, file.sha1):
        return store.fetch(file, folder, BUILD_TIMEOUT)
    return folder / file.name


def stored_file(name: str) -> StoredFile:
    """Describe GluonCV's file of a backbone, in GluonCV's store or the one that `MXNET_GLUON_REPO` names."""
    pretrained = PRETRAINED[name]
    stem = f"{pretrained.gluon}-{pretrained.sha1[:8]}"
    address = os.environ.get("MXNET_GLUON_REPO") or GLUON_STORE
    return StoredFile(f"{stem}.params", pretrained.sha1, f"{address.rstrip('/')}/gluon/models/{stem}.zip")


def imported_name(name: str) -> str:
    """Return the file name of an imported backbone."""
    return f"{PRETRAINED[name].gluon}-imported.params"


def find_backbone(name: str) -> Path:
    """Return the path of the file of a backbone, such as resnet-50, fetching it if necessary.

    Tried in this order: GluonCV's file in the models folder, or in the fallback folder; the imported file in the models
    folder; a download of GluonCV's file, in one attempt. GluonCV's file must have its SHA-1; the download replaces a
    damaged one. Raises HyperparameterError if none is available.
    """
    file = stored_file(name)
    folder, fallback = store.models_folder(), store.fallback_folder()
    path, imported = folder / file.name, folder / imported_name(name)
    fault = store.fault(path, file.sha1)
    if not fault:
        return path
    if fault != store.ABSENT:
        _LOGGER.warning("%s %s.", path, fault)
    if is_own(fallback) and not store.fault(fallback / file.name, file.sha1):
        return fallback / file.name
    if os.access(imported, os.R_OK):
        return imported
    try:
        return store.fetch(file, None, TRAINING_TIMEOUT)
    except WeightsError as error:
        raise HyperparameterError(
            f"use_pretrained_model is True, but the backbone's file {path} {fault}. {error}",
            "The default use_pretrained_model=True needs it. Set use_pretrained_model to False to train from scratch, "
            "or build the image with `scripts/build-image --with-weights`, or put GluonCV's "
            f"{file.name} (SHA-1 {file.sha1}) there, or what `semseg import-weights` makes of timm's "
            f"{PRETRAINED[name].timm}; MXNET_HOME names another folder.",
        ) from error
