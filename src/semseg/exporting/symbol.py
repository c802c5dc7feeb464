"""Exports a trained network as MXNet's symbol, for deployment with MXNet."""

from __future__ import annotations

from pathlib import Path

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.params import read_params
from semseg.engines.choose import MXNET
from semseg.errors import UserError
from semseg.files import replacing, scratch_folder

SYMBOL = "-symbol.json"
_PARAMS = "-0000.params"


def write_symbol(model: ModelDescription, path: Path) -> Path:
    """Write `NAME-symbol.json`, which is `path`, and `NAME-0000.params` beside it, whose path is returned.

    `SymbolBlock.imports(path, ["data"], params)` loads them without GluonCV. The input `data` is the ONNX model's
    `image`, the output the logits at full size, float32 (N, C, H, W), as GluonCV's `predict` returns them.
    Raises UserError when `path` has another ending and without MXNet, ArtifactError when the parameters do not fit, and
    OSError.
    """
    if not path.name.endswith(SYMBOL):
        raise UserError(f"{path} does not end in {SYMBOL}.", "MXNet recognises a network's two files by their endings.")
    if not MXNET.is_installed():
        raise UserError(
            "MXNet, which writes the symbol, is not installed.",
            f"Install it: {MXNET.installation}. Or export ONNX, which needs no engine.",
        )
    from semseg.engines.gluon import symbol  # here: importing MXNet takes two seconds

    params = path.with_name(path.name.removesuffix(SYMBOL) + _PARAMS)
    arrays = read_params(model.params)
    with scratch_folder(path.parent) as scratch:
        written = symbol.write_symbol(
            model.network, model.backbone, model.num_classes, arrays, str(model.params), scratch
        )
        for source, target in zip(written, (path, params), strict=True):
            with replacing(target) as temporary:
                source.replace(temporary)
    return params
