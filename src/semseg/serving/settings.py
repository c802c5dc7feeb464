"""What the environment sets for serving, read once at the start. An empty variable counts as not set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.errors import UserError
from semseg.inference.load import BACKENDS, PRECISIONS
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
    "the size of the largest array in an answer, in units of 1,048,576 bytes (0: SAGEMAKER_MAX_PAYLOAD_IN_MB's if that "
    "is set, else none)",
)
MAX_PIXELS = Number("SEMSEG_MAX_PIXELS", 50_000_000, 1, 10**9, "the number of pixels of the largest picture")
MAX_TILE_PIXELS = Number(
    "SEMSEG_MAX_TILE_PIXELS",
    0,
    SMALLEST_BUDGET,
    10**9,
    "the most pixels that the network gets at a time (0: what memory allows); a larger picture is cut into tiles",
)
BACKEND = Choice("SEMSEG_BACKEND", BACKENDS, "the engine that runs the network")
PRECISION = Choice("SEMSEG_PRECISION", PRECISIONS, "the kind of numbers that OpenVINO computes in")
CACHE_DIR = Folder("SEMSEG_CACHE_DIR", "a folder of the server's own for what OpenVINO compiled, for the next start")

VARIABLES = (PORT, MAX_PAYLOAD, MAX_RESPONSE, MAX_PIXELS, MAX_TILE_PIXELS, BACKEND, PRECISION, CACHE_DIR)


@dataclass(frozen=True)
class Settings:
    """model_dir: of the artifact; max_payload: bytes of a request; max_pixels: of a picture; the rest as named.

    max_response, in bytes, is 0 for no limit, max_tile_pixels 0 for what memory allows.
    """

    model_dir: Path
    port: int = PORT.default
    max_payload: int = MAX_PAYLOAD.default << 20
    max_response: int = MAX_RESPONSE.default
    max_pixels: int = MAX_PIXELS.default
    max_tile_pixels: int = MAX_TILE_PIXELS.default
    backend: str = BACKEND.default
    precision: str = PRECISION.default
    cache_dir: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises UserError when a variable has a value that is none."""
        payload = MAX_PAYLOAD.read(environ)
        told = payload if environ.get(MAX_PAYLOAD.name) else 0  # its default limits no answer
        return cls(
            model_dir=Paths.from_environment(environ).model,
            port=PORT.read(environ),
            max_payload=(payload or MAX_PAYLOAD.default) << 20,
            max_response=(MAX_RESPONSE.read(environ) or told) << 20,
            max_pixels=MAX_PIXELS.read(environ),
            max_tile_pixels=MAX_TILE_PIXELS.read(environ),
            backend=BACKEND.read(environ),
            precision=PRECISION.read(environ),
            cache_dir=CACHE_DIR.read(environ),
        )
