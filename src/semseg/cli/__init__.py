"""The command line: one module for each group of commands.

A command is a function that declares its options and sets the function that runs it. That function imports what it
needs when called, so that no command waits for another's imports.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from semseg.cli import completion, datasets, jobs, models, offline, weights
from semseg.cli.parser import Parser, did_you_mean
from semseg.errors import SemsegError, UserError, os_reason
from semseg.sagemaker.log_lines import is_for_people
from semseg.version import __version__

COMMANDS = (
    jobs.add_train,
    jobs.add_check,
    jobs.add_pipe,
    weights.add_fetch_weights,
    weights.add_import_weights,
    models.add_serve,
    offline.add_predict,
    offline.add_evaluate,
    models.add_info,
    models.add_export,
    models.add_quantize,
    datasets.add_demo,
    datasets.add_browse,
    datasets.add_overlay,
    completion.add_completion,
)

_ENDING_SECONDS = 5.0
"""How long a command that a signal ends may take before another signal ends what it still does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `semseg` and returns its exit code. argv: None for the process's own arguments."""
    _exit_on_signals()
    if logging.lastResort:  # which prints the warnings of commands that keep no log
        logging.lastResort.addFilter(is_for_people)
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = _parser(words).parse_args(words)
        code: int = arguments.run(arguments)
    except SemsegError as error:
        _say(error)
        return error.exit_code
    except BrokenPipeError:  # what reads the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UserError.exit_code
    except OSError as error:  # a file in the arguments that does not exist or cannot be written
        _say(f"{os_reason(error)}.")
        return UserError.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _exit_on_signals() -> None:
    """From now on SIGINT, SIGHUP and SIGTERM raise what ends the command; the first two unless they are ignored, as by
    `nohup`.

    Several may come at once, as when a terminal is closed. Those after the first are ignored for a while: they would
    interrupt what removes temporary files and waits for files that threads write.
    """
    ending_since = -math.inf

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ending_since
        if time.monotonic() < ending_since + _ENDING_SECONDS:
            return
        ending_since = time.monotonic()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)  # in any case: the first process of a container ignores it unless it is handled
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def _say(error: object) -> None:
    """Prints an error on stderr."""
    from semseg.reporting.wrapping import say

    say(f"semseg: {error}")


def train() -> int:
    """Runs the command `train`, which is `semseg train`."""
    return main(["train", *sys.argv[1:]])


def serve() -> int:
    """Runs the command `serve`, which is `semseg serve`."""
    return main(["serve", *sys.argv[1:]])


def _parser(words: Sequence[str]) -> Parser:
    """Returns the parser of all commands; exits with a suggestion if the first word is none."""
    parser = Parser(prog="semseg", description="Train and serve semantic segmentation networks.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in COMMANDS:
        add_command(commands)
    if not words:
        parser.print_help(sys.stderr)
    known = (*commands.choices, *parser.options())
    if words and words[0] not in known:
        parser.error(f"There is no command {words[0]!r:.100}.{did_you_mean(words[0], known)}")
    return parser
