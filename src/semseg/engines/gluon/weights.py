"""The pretrained backbones: GluonCV's files, found on this machine; nothing is fetched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from semseg.engines.gluon import networks, runtime
from semseg.errors import HyperparameterError

mx = runtime.load()


def load_backbone(model: Any, backbone: str, checksum: str | None = None) -> None:
    """Give the model's backbone the weights that GluonCV trained on ImageNet; the heads keep theirs.

    The file is `resnet50_v1s-25a187fa.params` or `resnet101_v1s-bd93a83c.params` in `models` of `$MXNET_HOME`
    (default ~/.mxnet). checksum: its SHA-1; GluonCV's when None.
    Raises HyperparameterError when the file is absent, or is not the one with this checksum.
    """
    from gluoncv.model_zoo import model_store

    name = backbone.replace("-", "") + "_v1s"
    checksum = checksum or model_store._model_sha1[name]
    path = models_folder() / f"{name}-{checksum[:8]}.params"
    _verify(path, checksum)
    arrays = mx.nd.load(str(path))
    wanted = networks.backbone_parameters(model)
    networks.assign(wanted, {key: arrays[key] for key in arrays if key in wanted}, str(path))


def models_folder() -> Path:
    """Return the folder where MXNet keeps model files: `$MXNET_HOME/models`, by default ~/.mxnet/models."""
    return Path(os.environ.get("MXNET_HOME", "~/.mxnet")).expanduser() / "models"


def _verify(path: Path, checksum: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha1").hexdigest()
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    else:
        if found == checksum:
            return
        fault = f"is damaged (SHA-1 {found})"
    raise HyperparameterError(
        f"use_pretrained_model is True, but the backbone's file {path} {fault}.",
        f"Set use_pretrained_model to False to train from scratch, or put GluonCV's {path.name} "
        f"(SHA-1 {checksum}) there; MXNET_HOME names another folder.",
    )
