"""What the environment sets for serving, read once at the start. An empty variable counts as not set.

VARIABLES is the one table of it: names, defaults, ranges, meanings; the README's is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.engines.choose import SERVING
from semseg.engines.protocols import PRECISIONS
from semseg.errors import UserError
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.sagemaker.paths import Paths


@dataclass(frozen=True)
class Number:
    """An environment variable that holds a whole number."""

    name: str
    default: int
    lowest: int
    highest: int
    meaning: str

    def read(self, environ: Mapping[str, str]) -> int:
        """The variable's value or its default; raises UserError, naming it, for another out of its range."""
        text = environ.get(self.name) or str(self.default)
        number = int(text) if text.isdecimal() and len(text) < 20 else -1
        if number != self.default and not self.lowest <= number <= self.highest:
            raise UserError(
                f"{self.name} is {text[:50]!r}, not a whole number from {self.lowest} to {self.highest}.",
                f"It is {self.meaning}; unset, it is {self.default}.",
            )
        return number


@dataclass(frozen=True)
class Choice:
    """An environment variable that holds one of some words, the first by default."""

    name: str
    options: tuple[str, ...]
    meaning: str

    @property
    def default(self) -> str:
        """What holds when it is not set."""
        return self.options[0]

    def read(self, environ: Mapping[str, str]) -> str:
        """The variable's value or its default; raises UserError, naming it, when it is none of the words."""
        text = environ.get(self.name) or self.default
        if text not in self.options:
            raise UserError(
                f"{self.name} is {text[:50]!r}, not one of {', '.join(self.options)}.",
                f"It is {self.meaning}; unset, it is {self.default}.",
            )
        return text


@dataclass(frozen=True)
class Folder:
    """An environment variable that holds a folder's absolute path; none by default."""

    name: str
    meaning: str
    default = ""

    def read(self, environ: Mapping[str, str]) -> Path | None:
        """The folder, be it there or not; raises UserError, naming the variable, for a relative path."""
        text = environ.get(self.name, "")
        if text and not text.startswith("/"):
            raise UserError(f"{self.name} is {text[:50]!r}, not an absolute path.", f"It is {self.meaning}.")
        return Path(text) if text else None


PORT = Number("SAGEMAKER_BIND_TO_PORT", 8080, 1, 65535, "the port to listen on")
WORKERS = Number(
    "SAGEMAKER_MODEL_SERVER_WORKERS",
    1,
    1,
    64,
    "the number of processes that share cores and memory, each with the whole model; one serves a CPU or a GPU best",
)
THREADS = Number("OMP_NUM_THREADS", 0, 1, 1024, "the number of cores that a process computes on (0: its share of all)")
TIMEOUT = Number(
    "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    60,
    1,
    3600,
    "the seconds in which a request has to come in and to reach the network; under `SAGEMAKER_BATCH=true` it is 3600",
)
QUEUE = Number("SEMSEG_QUEUE", 32, 0, 10_000, "the number of pictures that may wait while the network has one")
MAX_CONNECTIONS = Number(
    "SEMSEG_MAX_CONNECTIONS",
    256,
    8,
    4096,
    "the number of clients of a process, silent ones included, that /ping answers beside; fewer where limits of files "
    "or threads ask for it",
)
MAX_PAYLOAD = Number(
    "SAGEMAKER_MAX_PAYLOAD_IN_MB",
    100,
    0,
    1024,
    "the size of the largest request body, in units of 1,048,576 bytes (0, no limit of Batch Transform's: the default)",
)
MAX_RESPONSE = Number(
    "SEMSEG_MAX_RESPONSE_MB",
    0,
    1,
    1 << 20,
    "the size of the largest array in an answer, in units of 1,048,576 bytes and before gzip; a larger one is refused "
    "before the network runs (0: any)",
)
MAX_PIXELS = Number(
    "SEMSEG_MAX_PIXELS",
    50_000_000,
    1,
    10**9,
    "the number of pixels of the largest picture, whose sides count in steps of 8",
)
MAX_TILE_PIXELS = Number(
    "SEMSEG_MAX_TILE_PIXELS",
    0,
    SMALLEST_BUDGET,
    10**9,
    "the most pixels that the network gets at a time (0: what memory allows); a larger picture is cut into tiles",
)
BACKEND = Choice(
    "SEMSEG_BACKEND", SERVING, "the engine that runs the network; auto: MXNet where it finds a GPU, else OpenVINO"
)
PRECISION = Choice(
    "SEMSEG_PRECISION",
    PRECISIONS,
    "the kind of numbers that OpenVINO computes in; auto: int8 where the model has it, else bf16 where the CPU "
    "computes in it, else f32",
)
CACHE_DIR = Folder(
    "SEMSEG_CACHE_DIR",
    "a folder of the server's own, made if need be, in which OpenVINO keeps what it compiled: saves 0.05 to 0.2 s of "
    "the next start for as much disk as `model.onnx` takes",
)
REQUEST_LOG = Choice(
    "SEMSEG_REQUEST_LOG",
    ("metrics", "json", "none"),
    "the line that is logged of each invocation: the original's `#metrics`, or a JSON object with ids and times",
)

VARIABLES = (
    PORT,
    WORKERS,
    THREADS,
    TIMEOUT,
    QUEUE,
    MAX_CONNECTIONS,
    MAX_PAYLOAD,
    MAX_RESPONSE,
    MAX_PIXELS,
    MAX_TILE_PIXELS,
    BACKEND,
    PRECISION,
    CACHE_DIR,
    REQUEST_LOG,
)


@dataclass(frozen=True)
class Settings:
    """What holds. max_payload and max_response (0: no limit) are in bytes, timeout in seconds; threads and
    max_tile_pixels are 0 for all there is.
    """

    model_dir: Path
    port: int = PORT.default
    workers: int = WORKERS.default
    threads: int = THREADS.default
    timeout: int = TIMEOUT.default
    queue: int = QUEUE.default
    max_connections: int = MAX_CONNECTIONS.default
    max_payload: int = MAX_PAYLOAD.default << 20
    max_response: int = MAX_RESPONSE.default
    max_pixels: int = MAX_PIXELS.default
    max_tile_pixels: int = MAX_TILE_PIXELS.default
    backend: str = BACKEND.default
    precision: str = PRECISION.default
    cache_dir: Path | None = None
    request_log: str = REQUEST_LOG.default

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises UserError when a variable has a value that is none."""
        batch = environ.get("SAGEMAKER_BATCH", "").lower() == "true"
        return cls(
            model_dir=Paths.from_environment(environ).model,
            port=PORT.read(environ),
            workers=WORKERS.read(environ),
            threads=THREADS.read(environ),
            timeout=TIMEOUT.highest if batch and not environ.get(TIMEOUT.name) else TIMEOUT.read(environ),
            queue=QUEUE.read(environ),
            max_connections=MAX_CONNECTIONS.read(environ),
            max_payload=(MAX_PAYLOAD.read(environ) or MAX_PAYLOAD.default) << 20,
            max_response=MAX_RESPONSE.read(environ) << 20,
            max_pixels=MAX_PIXELS.read(environ),
            max_tile_pixels=MAX_TILE_PIXELS.read(environ),
            backend=BACKEND.read(environ),
            precision=PRECISION.read(environ),
            cache_dir=CACHE_DIR.read(environ),
            request_log=REQUEST_LOG.read(environ),
        )


def table() -> str:
    """The variables as a Markdown table."""
    rows = [f"| `{variable.name}` | {variable.default} | {_meaning(variable)} |" for variable in VARIABLES]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows])


def _meaning(variable: Number | Choice | Folder) -> str:
    match variable:
        case Number():
            return f"{variable.meaning}; {variable.lowest} to {variable.highest}"
        case Choice():
            return f"{variable.meaning}: {', '.join(f'`{option}`' for option in variable.options)}"
        case Folder():
            return variable.meaning
