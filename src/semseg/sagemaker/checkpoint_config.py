"""Where the job keeps its checkpoints (container-contract.md sections 1.2 and 1.10)."""

from __future__ import annotations

from pathlib import Path

from semseg.errors import UserError
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

_LONGEST = 4096


def read_checkpoint_directory(paths: Paths) -> Path | None:
    """The directory that the platform fills before the job and copies to S3 as it changes; None without one.

    It is the LocalPath of checkpointconfig.json, else `checkpoints` below the job's base. Raises UserError for a
    LocalPath that is no absolute path on one line, up to 4,096 characters, without `..`, below the root.
    """
    if not paths.checkpoint_config.exists():
        return None
    given = read_json_object(paths.checkpoint_config).get("LocalPath")
    if given is None:
        return paths.checkpoints
    sound = isinstance(given, str) and given.isprintable() and len(given) <= _LONGEST
    if not sound or not Path(given).is_absolute() or ".." in Path(given).parts or len(Path(given).parts) < 2:
        raise UserError(
            f"{paths.checkpoint_config}: the LocalPath {given!r:.200} is not an absolute path of a directory.",
            "Leave it out for /opt/ml/checkpoints.",
        )
    return Path(given)
