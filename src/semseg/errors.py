"""The error tree. Each class sets its exit code and HTTP status, and stands for what has to be fixed.

SemsegError                     exit 2   500   this project or the machine: a defect
├── UserError                   exit 1   400   the input of a job or a request
│   ├── HyperparameterError     exit 1   400   the value of a hyperparameter
│   ├── ChannelError            exit 1   400   a channel: absent, empty, in an unsupported mode
│   ├── DataError               exit 1   400   the content of a channel: files, label maps
│   ├── DeviceError             exit 1   500   the machine: a GPU or driver that the engine cannot use
│   │   └── DeviceMemoryError   exit 1   507   the machine or the workload: a GPU with too little memory
│   ├── WeightsError            exit 1   400   the file of a pretrained backbone: unavailable, damaged, of another model
│   ├── DivergedError           exit 1   400   the training: infinite or NaN values
│   ├── DiskFullError           exit 1   400   the machine: no space for a file
│   ├── JobFolderError          exit 1   400   the folder of a job: in use, or with results that would be lost
│   ├── ImageError              exit 1   400   one image or mask: damaged, unsupported format
│   │   └── TooLargeError       exit 1   413   more bytes or pixels than allowed
│   └── RequestError            exit 1   400   a request
│       ├── UnsupportedMediaError        415   its Content-Type
│       │   └── UnsupportedCodingError   415   its Content-Encoding
│       ├── NotAcceptableError           406   its Accept
│       └── ClientLeftError              499   its client, which has closed the connection
├── GroupError                  exit 2   500   another rank or host of the training: it has failed or cannot be reached
├── BusyError                   exit 1   503   nothing: the server is overloaded, retry later
├── ServerError                 exit 1   500   a server that was called: it cannot be reached, fails or answers wrongly
└── ArtifactError               exit 1   500   the model directory

Stopped                         exit 0         nothing: the job was asked to stop
"""

from __future__ import annotations

import os
from collections.abc import Sequence


class SemsegError(Exception):
    """An error with one sentence on what is wrong and where (`message`) and one on how to fix it (`hint`)."""

    exit_code = 2
    http_status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UserError(SemsegError):
    """An error that the person who starts the job or sends the request can fix."""

    exit_code = 1
    http_status = 400


class HyperparameterError(UserError):
    """A hyperparameter is missing, unknown or out of range.

    `name` is the hyperparameter's and `fault` the message without the name, which a command line puts after its option;
    both are empty when the error is about several hyperparameters, or about more than its own value.
    """

    def __init__(self, message: str, hint: str = "", name: str = "", fault: str = "") -> None:
        super().__init__(message, hint)
        self.name = name
        self.fault = fault


class ChannelError(UserError):
    """A channel is missing, empty, or in an unsupported mode or format."""


class DataError(UserError):
    """A file or label map of a channel is invalid."""


class DeviceError(UserError):
    """The machine has a GPU or a driver that the engine cannot use, or lacks one that is needed."""

    http_status = 500


class DeviceMemoryError(DeviceError):
    """A GPU has too little memory for the computation."""

    http_status = 507


class WeightsError(UserError):
    """The file of a pretrained backbone is unavailable, or is not the expected one."""


class DivergedError(UserError):
    """The loss of a training, or a parameter of its network, is infinite or NaN."""


class DiskFullError(UserError):
    """A file cannot be written because the disk is full; `place` is the file or its folder."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"The disk is full: no space is left in {place}.",
            "Give the job a larger volume (VolumeSizeInGB on SageMaker), or free some space.",
        )


class JobFolderError(UserError):
    """A folder is in use by another training, or holds the results of one, which would be lost."""


class ImageError(UserError):
    """An image or mask cannot be read."""


class TooLargeError(ImageError):
    """An image or request body is larger than allowed."""

    http_status = 413


class RequestError(UserError):
    """A request is malformed."""


class UnsupportedMediaError(RequestError):
    """The Content-Type of a request is not supported."""

    http_status = 415


class UnsupportedCodingError(UnsupportedMediaError):
    """The Content-Encoding of a request is not supported."""


class NotAcceptableError(RequestError):
    """The Accept header of a request names no response type on offer."""

    http_status = 406


class ClientLeftError(RequestError):
    """The client closed its connection before the response; nginx's status 499, for metrics and the log."""

    http_status = 499


class GroupError(SemsegError):
    """Another rank or host of a training has failed, or cannot be reached; `exit_code` is that of its error."""

    def __init__(self, message: str, hint: str = "", exit_code: int = SemsegError.exit_code) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class BusyError(SemsegError):
    """The server is overloaded; `retry_after` is the number of seconds after which a client should retry."""

    exit_code = 1
    http_status = 503

    def __init__(self, message: str, hint: str = "", retry_after: int = 1) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ServerError(SemsegError):
    """A server that was called cannot be reached, fails, or sends a response that cannot be read.

    status: the HTTP status of its response, None if there was none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status


class ArtifactError(SemsegError):
    """A model directory is incomplete, damaged, or contradicts itself."""

    exit_code = 1


class Stopped(BaseException):
    """A job was asked to stop, and has saved what it had to; the text, if any, says what it saved.

    Not an Exception, so that error handlers on the way let it pass.
    """


class FormatError(Exception):
    """What is wrong with a file: a sentence without its subject, the file's name, which the caller adds."""


def one_line(text: str) -> str:
    """Return the text, escaped if it holds control characters: those in a file name could forge log lines."""
    return text if text.isprintable() else ascii(text)


def os_reason(error: OSError) -> str:
    """Return what the system could not do and with which file, as ``place: Permission denied``."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{one_line(str(error.filename))}: {reason}" if isinstance(error.filename, str | os.PathLike) else reason


def first_few(items: Sequence[object], limit: int = 5) -> str:
    """Return the first items as text for a message: ``a, b and 3 more``, or ``nothing``."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(map(str, items[:limit])) + more or "nothing"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 problem``, ``2 problems``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
