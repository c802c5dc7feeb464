"""Jobs in Pipe mode, and the processes that write to their pipes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semseg.sagemaker.paths import Paths

SEMSEG = Path(sys.executable).with_name("semseg")
PIPE = {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO", "ContentType": "application/x-recordio"}


def manifest_lines(street: Path, split: str, root: str, **more: Any) -> str:
    """An augmented manifest of a split, whose files are named below `root`."""
    lines = []
    for image in sorted((street / split).iterdir()):
        mask = f"{split}_annotation/{image.stem}.png"
        line = {"source-ref": f"{root}{split}/{image.name}", "streets-ref": f"{root}{mask}", **more}
        lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"


@contextmanager
def fed(paths: Paths, manifests: dict[str, Path]) -> Iterator[None]:
    """Writes to the pipes as the platform does: `semseg pipe`, a process for each channel."""
    writers = [
        subprocess.Popen([SEMSEG, "pipe", str(path), str(paths.channel("")), "--channel", channel])
        for channel, path in manifests.items()
    ]
    try:
        yield
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGTERM)
        for writer in writers:
            writer.wait(30)
    assert not [path for path in paths.channel("").iterdir() if path.is_fifo()]


def into_pipes(job: Any, **config: str) -> None:
    """Turns the channels of a job into pipes; config: more of their configuration."""
    for name in ("train", "train_annotation", "validation", "validation_annotation"):
        shutil.rmtree(job.paths.channel(name))
    job.paths.input_data_config.write_text(json.dumps(dict.fromkeys(("train", "validation"), PIPE | config)))
