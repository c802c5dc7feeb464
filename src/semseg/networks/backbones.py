"""The pretrained backbones: GluonCV's files, or imported ones, found on this machine or fetched, and read."""

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

SECONDS = 20.0
"""That a training waits for a backbone's file."""

PATIENT_SECONDS = 600.0
"""That the building of an image waits for it."""

GLUON_STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com"
"""GluonCV's own store (gluoncv.model_zoo.model_store); `MXNET_GLUON_REPO` names another."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """The weights of a backbone, trained on ImageNet.

    gluon: GluonCV's name; sha1: of GluonCV's file, in hexadecimal; timm: what timm calls its port.
    """

    gluon: str
    sha1: str
    timm: str


PRETRAINED = {
    "resnet-50": Pretrained("resnet50_v1s", "25a187fa281ddc98afbcd0cc0f0646885b874b80", "resnet50s.gluon_in1k"),
    "resnet-101": Pretrained("resnet101_v1s", "bd93a83c05f709a803b1221aeff0b028e6eebb03", "resnet101s.gluon_in1k"),
}
"""By the backbone's name; the SHA-1 are those of gluoncv.model_zoo.model_store."""


def read_backbone(path: Path, backbone: Backbone) -> Arrays:
    """Return the parameters of a backbone, by name, as read-only views of its mapped file; others are passed over.

    Raises ArtifactError, naming the file, when it is damaged or its names, shapes or dtypes are not the backbone's.
    Only an imported file can be so, GluonCV's have their SHA-1.
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
    """Fetch GluonCV's file of a backbone into the models' folder, unless it is there already, and return its path.

    Raises WeightsError, which says why it is not to be had.
    """
    file, folder = stored_file(name), store.models_folder()
    if store.fault(folder / file.name, file.sha1):
        return store.fetch(file, folder, PATIENT_SECONDS)
    return folder / file.name


def stored_file(name: str) -> StoredFile:
    """Return GluonCV's file of a backbone, in GluonCV's own store or the one that `MXNET_GLUON_REPO` names."""
    pretrained = PRETRAINED[name]
    stem = f"{pretrained.gluon}-{pretrained.sha1[:8]}"
    address = os.environ.get("MXNET_GLUON_REPO") or GLUON_STORE
    return StoredFile(f"{stem}.params", pretrained.sha1, f"{address.rstrip('/')}/gluon/models/{stem}.zip")


def imported_name(name: str) -> str:
    """Return the name of a backbone's file that was imported."""
    return f"{PRETRAINED[name].gluon}-imported.params"


def find_backbone(name: str) -> Path:
    """Return the file of the backbone of a name, such as resnet-50.

    It is, in this order, GluonCV's in the models' folder or in the spare one, the imported one in the models' folder,
    or GluonCV's fetched now, in one attempt. GluonCV's must have its SHA-1; a damaged one is replaced by what is
    fetched. Raises HyperparameterError when no file is to be had.
    """
    file = stored_file(name)
    folder, spare = store.models_folder(), store.spare_folder()
    path, imported = folder / file.name, folder / imported_name(name)
    fault = store.fault(path, file.sha1)
    if not fault:
        return path
    if fault != store.ABSENT:
        _LOGGER.warning("%s %s.", path, fault)
    if is_own(spare) and not store.fault(spare / file.name, file.sha1):
        return spare / file.name
    if os.access(imported, os.R_OK):
        return imported
    try:
        return store.fetch(file, None, SECONDS)
    except WeightsError as error:
        raise HyperparameterError(
            f"use_pretrained_model is True, but the backbone's file {path} {fault}. {error}",
            "The default use_pretrained_model=True needs it. Set use_pretrained_model to False to train from scratch, "
            "or build the image with `scripts/build-image --with-weights`, or put there GluonCV's "
            f"{file.name} (SHA-1 {file.sha1}) or what `semseg import-weights` makes of timm's "
            f"{PRETRAINED[name].timm}; MXNET_HOME names another folder.",
        ) from error
