"""The settings of the server, read from environment variables at the start. An empty variable counts as not set.

VARIABLES is the one table of their names, defaults, ranges and meanings; the README's table is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.engines.choose import SERVING
from semseg.engines.protocols import AUTO, PRECISIONS
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.sagemaker.paths import Paths
from semseg.serving.variables import Choice, Folder, Number, Origins, ScaleText, meaning

ANY_ADDRESS = "0.0.0.0"  # a container is reached through whatever network it has

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
    "the seconds within which a request has to arrive and to reach the network; 3600 under `SAGEMAKER_BATCH=true`",
)
QUEUE = Number("SEMSEG_QUEUE", 32, 0, 10_000, "the number of images that may wait while another is segmented")
MAX_CONNECTIONS = Number(
    "SEMSEG_MAX_CONNECTIONS",
    256,
    8,
    4096,
    "the most clients that a process serves at a time, silent ones included, while /ping still answers; fewer where "
    "limits of files or threads require it",
)
MAX_PAYLOAD = Number(
    "SAGEMAKER_MAX_PAYLOAD_IN_MB",
    100,
    0,
    1024,
    "the size of the largest request body, in units of 1,048,576 bytes (0, Batch Transform's word for no limit: the "
    "default)",
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
    "the number of pixels of the largest image, its sides rounded up to multiples of the network's stride (8 for all "
    "three)",
)
MAX_TILE_PIXELS = Number(
    "SEMSEG_MAX_TILE_PIXELS",
    0,
    SMALLEST_BUDGET,
    10**9,
    "the most pixels that the network gets at a time (0: what memory allows); a larger image is cut into tiles",
)
BACKEND = Choice(
    "SEMSEG_BACKEND",
    SERVING,
    "the engine that runs the network; auto: MXNet or else PyTorch where it is installed and finds a GPU, else "
    "OpenVINO",
)
PRECISION = Choice(
    "SEMSEG_PRECISION",
    PRECISIONS,
    "the number format that the network computes in; auto: with OpenVINO int8 where the model has it, else bf16 where "
    "the CPU is faster in it, with PyTorch bf16 where the GPU supports it, else f32",
)
CACHE_DIR = Folder(
    "SEMSEG_CACHE_DIR",
    "a folder of the server's own, created if necessary, in which OpenVINO keeps compiled models: saves 0.05 to 0.2 s "
    "of the next start for as much disk as `model.onnx` takes",
)
SCALE = ScaleText(
    "SEMSEG_SCALE",
    "the size at which the network gets images: `model`, as its `_serving_scale` says; `none`, the images' own; "
    "`base`, its `base_size` as their long side; or a factor of 0.05 to 4. Answers have the image's size in any case; "
    "`scale` in `Accept` overrides it",
)
REQUEST_LOG = Choice(
    "SEMSEG_REQUEST_LOG",
    (AUTO, "metrics", "short", "json", "none"),
    "the log line of each invocation: `metrics`, the built-in algorithm's `#metrics`; `short`, status, type, size and "
    "milliseconds; `json`, an object with ids and times; auto: short for `semseg serve MODEL` at a terminal, else "
    "metrics",
)

CORS_ORIGINS = Origins(
    "SEMSEG_CORS_ORIGINS",
    "the origins of web pages, separated by commas, whose scripts may call this server (CORS), such as "
    "`https://example.com`; `*`: all",
)

PAGE = Choice(
    "SEMSEG_PAGE",
    (AUTO, "on", "off"),
    "whether `/` is a page on which people try the model in a browser, and `/docs` describes the interface; auto: only "
    "for `semseg serve MODEL`",
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
    SCALE,
    REQUEST_LOG,
    CORS_ORIGINS,
    PAGE,
)


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    host: the address to listen on, at_terminal: whether a person follows the log, and origin: what messages call the
    model's folder if it has a temporary name, have no variables. max_payload and max_response (0: no limit) are in
    bytes, timeout in seconds; threads and max_tile_pixels are 0 for as many as there are.
    """

    model_dir: Path
    host: str = ANY_ADDRESS
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
    scale: str = SCALE.default
    request_log: str = REQUEST_LOG.default
    cors_origins: tuple[str, ...] = ()
    page: str = PAGE.default
    at_terminal: bool = False
    origin: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that the environment gives. Raises UserError when a variable has an invalid value."""
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
            scale=SCALE.read(environ),
            request_log=REQUEST_LOG.read(environ),
            cors_origins=CORS_ORIGINS.read(environ),
            page=PAGE.read(environ),
        )


def table() -> str:
    """The variables as a Markdown table."""
    rows = [f"| `{variable.name}` | {variable.default} | {meaning(variable)} |" for variable in VARIABLES]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows])
