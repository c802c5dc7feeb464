"""The pretrained backbones: GluonCV's files, or imported ones, found on this machine or fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from semseg import machine
from semseg.engines.gluon import networks, runtime
from semseg.errors import ArtifactError, HyperparameterError, WeightsError
from semseg.networks import store
from semseg.networks.store import StoredFile
from semseg.sagemaker.log_lines import LOGGER

mx = runtime.load()

TIMM_NAMES = {"resnet-50": "resnet50s.gluon_in1k", "resnet-101": "resnet101s.gluon_in1k"}
"""What timm calls its port of GluonCV's backbones."""

SECONDS = 20.0
"""That a training waits for a backbone's file."""

PATIENT_SECONDS = 600.0
"""That the building of an image waits for it."""


def load_backbone(model: Any, backbone: str) -> None:
    """Give the model's backbone weights trained on ImageNet; the heads keep theirs.

    backbone: resnet-50 or resnet-101. An imported file must fit by names and shapes.
    Raises HyperparameterError when no file is to be had, ArtifactError when an imported one is damaged or foreign.
    """
    path = find_backbone(backbone)
    arrays = _read(path)
    wanted = networks.backbone_parameters(model)
    networks.assign(wanted, {name: arrays[name] for name in arrays if name in wanted}, str(path))


def fetch_backbone(backbone: str) -> Path:
    """Fetch GluonCV's file into the models' folder, unless it is there already, and return its path.

    Raises WeightsError, which tells why it is not to be had.
    """
    file, folder = stored_file(backbone), store.models_folder()
    if store.fault(folder / file.name, file.sha1):
        return store.fetch(file, folder, PATIENT_SECONDS)
    return folder / file.name


def stored_file(backbone: str) -> StoredFile:
    """Return GluonCV's file of a backbone, in GluonCV's own store or the one that `MXNET_GLUON_REPO` names."""
    from gluoncv.model_zoo import model_store

    name = _gluon_name(backbone)
    sha1 = model_store._model_sha1[name]
    stem = f"{name}-{sha1[:8]}"
    store = os.environ.get("MXNET_GLUON_REPO") or model_store.apache_repo_url
    url = model_store._url_format.format(repo_url=store.rstrip("/") + "/", file_name=stem)
    return StoredFile(f"{stem}.params", sha1, url)


def imported_name(backbone: str) -> str:
    """Return the name of a backbone's file that was imported."""
    return f"{_gluon_name(backbone)}-imported.params"


def _gluon_name(backbone: str) -> str:
    return backbone.replace("-", "") + "_v1s"


def find_backbone(backbone: str) -> Path:
    """Return the file of a backbone, resnet-50 or resnet-101.

    It is, in this order, GluonCV's in the models' folder or in the spare one, the imported one in the models' folder,
    or GluonCV's fetched now, in one attempt. GluonCV's must have its SHA-1; a damaged one is replaced by what is
    fetched. Raises HyperparameterError when no file is to be had.
    """
    file = stored_file(backbone)
    folder, spare = store.models_folder(), store.spare_folder()
    path, imported = folder / file.name, folder / imported_name(backbone)
    fault = store.fault(path, file.sha1)
    if not fault:
        return path
    if fault != store.ABSENT:
        LOGGER.warning("%s %s.", path, fault)
    if machine.is_own(spare) and not store.fault(spare / file.name, file.sha1):
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
            f"{file.name} (SHA-1 {file.sha1}) or what `semseg import-weights` makes of timm's {TIMM_NAMES[backbone]}; "
            "MXNET_HOME names another folder.",
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """Return the arrays by name; only an imported file can be damaged here, the others have their SHA-1."""
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise ArtifactError(
            f"{path} is damaged: MXNet cannot read it.", "Make it again with `semseg import-weights`, or remove it."
        ) from error
    return arrays if isinstance(arrays, dict) else {}
