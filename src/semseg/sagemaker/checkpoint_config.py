"""Where the job keeps its checkpoints."""

from __future__ import annotations

from pathlib import Path

from semseg.errors import UserError
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

_LONGEST = 4096


def read_checkpoint_directory(paths: Paths) -> Path | None:
    """Returns the directory that the platform restores before the job and syncs to S3 during it; None without one.

    It is the LocalPath of checkpointconfig.json, by default `checkpoints` below the job's base. Raises UserError unless
    LocalPath is an absolute printable path other than the root, without `..`, of at most 4,096 characters.
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
            "Leave it out to use /opt/ml/checkpoints.",
        )
    return Path(given)
