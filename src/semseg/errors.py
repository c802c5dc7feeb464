"""The error tree. Each error knows its exit code, its HTTP status and who can mend it.

SemsegError                     exit 2   500   us: a defect or a broken machine
├── UserError                   exit 1   400   whoever starts the job or sends the request
│   ├── HyperparameterError     exit 1   400   the value of a hyperparameter
│   ├── ChannelError            exit 1   400   a channel: absent, empty, in a mode we cannot read
│   ├── DataError               exit 1   400   the content of a channel: files, label maps
│   ├── DeviceError             exit 1   500   the machine: a GPU or driver that will not do for MXNet
│   │   └── DeviceMemoryError   exit 1   507   the machine, or what is asked of it: a GPU with too little memory
│   ├── WeightsError            exit 1   400   the file of a pretrained backbone: not to be had, damaged, foreign
│   ├── DivergedError           exit 1   400   the training: numbers that are none
│   ├── DiskFullError           exit 1   400   the machine: no room for a file
│   ├── JobFolderError          exit 1   400   the folder of a job: in use, or with what would be lost
│   ├── ImageError              exit 1   400   one image or mask: damaged, wrong kind
│   │   └── TooLargeError       exit 1   413   more bytes or pixels than allowed
│   └── RequestError            exit 1   400   a request
│       ├── UnsupportedMediaError        415   its Content-Type
│       │   └── UnsupportedCodingError   415   its Content-Encoding
│       ├── NotAcceptableError           406   its Accept
│       └── ClientLeftError              499   its client, which has closed the connection
├── BusyError                   exit 1   503   nobody: the server has too much to do, ask again later
└── ArtifactError               exit 1   500   whoever gave the model directory

Stopped                         exit 0         nobody: a job ends as it was told to
"""

from __future__ import annotations

from collections.abc import Sequence


class SemsegError(Exception):
    """An error with a sentence on what was wrong and where (`message`) and one on how to mend it (`hint`)."""

    exit_code = 2
    http_status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UserError(SemsegError):
    """Can be mended by whoever starts the job or sends the request."""

    exit_code = 1
    http_status = 400


class HyperparameterError(UserError):
    """A hyperparameter is missing, unknown or out of range."""


class ChannelError(UserError):
    """A channel is missing, empty, or in a mode or form that cannot be read."""


class DataError(UserError):
    """Files or label maps of a channel are wrong."""


class DeviceError(UserError):
    """The machine has a GPU or a driver that MXNet cannot use, or lacks one that is needed."""

    http_status = 500


class DeviceMemoryError(DeviceError):
    """A GPU has too little memory for what it is to compute."""

    http_status = 507


class WeightsError(UserError):
    """The file of a pretrained backbone cannot be had, or is not what it should be."""


class DivergedError(UserError):
    """The loss of a training, or a parameter of its network, is infinite or no number."""


class DiskFullError(UserError):
    """A file cannot be written because the disk is full; `place` is the file or its folder."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"The disk is full: there is no room in {place}.",
            "Give the job a larger volume (VolumeSizeInGB on SageMaker), or make room.",
        )


class JobFolderError(UserError):
    """A folder is in use by another training, or holds one that would be lost."""


class ImageError(UserError):
    """An image or mask cannot be read."""


class TooLargeError(ImageError):
    """An image or request body is larger than allowed."""

    http_status = 413


class RequestError(UserError):
    """A request is malformed."""


class UnsupportedMediaError(RequestError):
    """The Content-Type of a request is none we read."""

    http_status = 415


class UnsupportedCodingError(UnsupportedMediaError):
    """The Content-Encoding of a request is none we read."""


class NotAcceptableError(RequestError):
    """The Accept of a request names nothing we can answer with."""

    http_status = 406


class ClientLeftError(RequestError):
    """The client has closed its connection before it was answered; the status is nginx's, for metrics and the log."""

    http_status = 499


class BusyError(SemsegError):
    """More is asked than can be done in time; `retry_after`: seconds after which it is worth asking again."""

    exit_code = 1
    http_status = 503

    def __init__(self, message: str, hint: str = "", retry_after: int = 1) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ArtifactError(SemsegError):
    """A model directory is incomplete, damaged, or contradicts itself."""

    exit_code = 1


class Stopped(BaseException):
    """A job was told to stop, and there was nothing more to save; the text, if any, says what became of it.

    Not an Exception: what handles errors on the way lets it pass.
    """


class FormatError(Exception):
    """What is wrong with a file: the end of a sentence that begins with its name, which whoever catches this knows."""


def one_line(text: str) -> str:
    """The text, escaped if it holds control characters, as file names may, which could forge log lines."""
    return text if text.isprintable() else ascii(text)


def first_few(items: Sequence[object], limit: int = 5) -> str:
    """The first items for a message: ``a, b and 3 more``, or ``nothing``."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(map(str, items[:limit])) + more or "nothing"
