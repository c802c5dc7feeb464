"""The directories and files of a SageMaker container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_BASE = "/opt/ml"


@dataclass(frozen=True)
class Paths:
    """The directory tree below `/opt/ml`, or below `SAGEMAKER_BASE_DIR`."""

    base: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Paths:
        """Returns the tree below $SAGEMAKER_BASE_DIR, by default /opt/ml."""
        return cls(Path(environ.get("SAGEMAKER_BASE_DIR") or DEFAULT_BASE))

    @property
    def hyperparameters(self) -> Path:
        """The job's hyperparameters, a flat JSON object of strings."""
        return self.base / "input/config/hyperparameters.json"

    @property
    def input_data_config(self) -> Path:
        """The channels and their modes."""
        return self.base / "input/config/inputdataconfig.json"

    @property
    def resource_config(self) -> Path:
        """The hosts of the job."""
        return self.base / "input/config/resourceconfig.json"

    @property
    def checkpoint_config(self) -> Path:
        """The location of checkpoints; exists only if the job has a CheckpointConfig."""
        return self.base / "input/config/checkpointconfig.json"

    @property
    def checkpoints(self) -> Path:
        """The default directory of checkpoints."""
        return self.base / "checkpoints"

    def channel(self, name: str) -> Path:
        """The directory of a channel in File mode."""
        return self.base / "input/data" / name

    @property
    def model(self) -> Path:
        """The directory that becomes model.tar.gz; for serving, its unpacked content."""
        return self.base / "model"

    @property
    def output_data(self) -> Path:
        """The directory that becomes output.tar.gz."""
        return self.base / "output/data"

    @property
    def failure(self) -> Path:
        """The file with the reason why a job failed; the platform shows its first 1,024 characters."""
        return self.base / "output/failure"
