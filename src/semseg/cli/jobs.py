"""Commands for training jobs and their data: `train`, `check` and `pipe`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from semseg.cli.config_file import FromFile
from semseg.cli.options import (
    Commands,
    add_job_options,
    given_arrangement,
    given_channels,
    given_hyperparameters,
    option,
    option_with_value,
    require_splits,
    require_valid,
)
from semseg.cli.parser import integer, local_path, one_of
from semseg.errors import ChannelError
from semseg.sagemaker.channels import SPLITS
from semseg.sagemaker.paths import Paths

if TYPE_CHECKING:
    from semseg.data.arrangement import Arrangement


def add_train(commands: Commands) -> None:
    """Adds `semseg train`, which is also the command `train` of the container."""
    parser = commands.add_parser(
        "train",
        help="run the training job in /opt/ml or $SAGEMAKER_BASE_DIR, or one given by options",
        description="Trains a network on folders of images and masks, and writes the model, a report and checkpoints "
        "into one folder. The data is checked first. The same command resumes a training that was stopped. Without "
        "options it runs the job in /opt/ml or $SAGEMAKER_BASE_DIR, as the container does.",
    )
    parser.set_defaults(run=_train, help=parser.format_help)
    parser.add_argument(
        "--job",
        type=local_path,
        metavar="DIR",
        help="the folder for the model and the output (default: the next of ./job, ./job-2, ./job-3, ...)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start a new training even if --job (default: ./job) holds one"
    )
    parser.add_argument(
        "--config",
        action=FromFile,
        type=local_path,
        metavar="FILE",
        help="take options from a TOML or JSON file, such as num_classes = 4",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--checkpoints",
        type=local_path,
        metavar="DIR",
        help="the folder for checkpoints, from which training resumes (default: in --job)",
    )
    where.add_argument("--no-checkpoints", action="store_true", help="save none: the training cannot be resumed")
    add_job_options(parser)


def _train(arguments: argparse.Namespace) -> int:
    from semseg.data.arrangement import Arrangement
    from semseg.training.job_folder import TrainCommand
    from semseg.training.start import start

    channels, hyperparameters = given_channels(arguments), given_hyperparameters(arguments)
    arrangement = given_arrangement(arguments)
    if channels:
        require_valid(hyperparameters)
        require_splits(channels, bool(arguments.split))
    elif not _is_laid_out(Paths.from_environment(os.environ)):
        if not _has_options(arguments):
            print(arguments.help(), file=sys.stderr)
        raise _nothing_to("train on")
    options = [option_with_value(name, value) for name, value in (channels | arrangement | hyperparameters).items()]
    command = TrainCommand(
        channels,
        hyperparameters,
        arguments.job,
        arguments.checkpoints,
        keep_checkpoints=not arguments.no_checkpoints,
        overwrite=arguments.overwrite,
        arguments=tuple(word for words in options for word in words),
        arrangement=Arrangement(arguments.suffix, arguments.split or 0.0),
    )
    return start(command, os.environ)


def _has_options(arguments: argparse.Namespace) -> bool:
    own = arguments.job, arguments.checkpoints, arguments.no_checkpoints, arguments.overwrite
    return any(own) or bool(given_hyperparameters(arguments) | given_arrangement(arguments))


def _is_laid_out(paths: Paths) -> bool:
    """Returns whether a job is to be expected below `paths`: they exist, or the user names them."""
    return bool(os.environ.get("SAGEMAKER_BASE_DIR")) or paths.base.exists()


def _nothing_to(do: str) -> ChannelError:
    return ChannelError(
        f"There is nothing to {do}: no channel is given, and there is no job in /opt/ml.",
        "Give --train, --train-annotation, --split 0.2 and --num-classes; "
        "`semseg demo shapes` writes a data set to try it with.",
    )


def add_check(commands: Commands) -> None:
    """Adds `semseg check`, which exits with 1 if the data has problems."""
    parser = commands.add_parser(
        "check",
        help="read all of a job's data and report on it, without training",
        description="Takes the options of `semseg train`, reads every image and mask, and says what would end a "
        "training or spoil its results. Where masks are stored as colours it suggests a label map. Exit code 1: the "
        "data has errors.",
    )
    parser.set_defaults(run=_check)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--write-label-map", type=local_path, metavar="FILE", help="write the suggested label map into a new file"
    )
    parser.add_argument(
        "--config", action=FromFile, type=local_path, metavar="FILE", help="take options from a TOML or JSON file"
    )
    add_job_options(parser)


def _check(arguments: argparse.Namespace) -> int:
    from semseg.data.arrangement import Arrangement
    from semseg.data.user_paths import with_user_paths
    from semseg.files import scratch_folder
    from semseg.reporting.data_report import as_json, as_text, require_new, write_label_map
    from semseg.reporting.wrapping import fitted, say
    from semseg.training.recipe import check

    if arguments.write_label_map:
        require_new(arguments.write_label_map)
    channels, hyperparameters = given_channels(arguments), given_hyperparameters(arguments)
    if channels:
        require_valid(hyperparameters)
        require_splits(channels, bool(arguments.split))
    elif not _is_laid_out(Paths.from_environment(os.environ)):
        raise _nothing_to("check")
    with scratch_folder() as scratch:
        paths = Paths(scratch) if channels else Paths.from_environment(os.environ)
        with with_user_paths(paths, channels) as renamed:
            _lay_out(paths, channels, hyperparameters, Arrangement(arguments.suffix, arguments.split or 0.0))
            report = check(paths).renamed(renamed)
    print(json.dumps(as_json(report)) if arguments.json else fitted(as_text(report), sys.stdout))
    if arguments.write_label_map:
        write_label_map(report, arguments.write_label_map)
        say(f"semseg: The label map was written to {arguments.write_label_map}.")
    return 1 if report.problems else 0


def _lay_out(paths: Paths, channels: dict[str, str], hyperparameters: dict[str, str], arrangement: Arrangement) -> None:
    """Lays out the job that the options describe. Raises ChannelError for hyperparameters without channels."""
    from semseg.data.local_job import lay_out
    from semseg.data.s3 import ObjectStore

    if channels:
        with ObjectStore() as store:
            lay_out(paths, channels, hyperparameters, store, arrangement=arrangement)
    elif hyperparameters:
        raise ChannelError(f"{option(next(iter(hyperparameters)))} is given, but no channel.", "Give --train too.")


def add_pipe(commands: Commands) -> None:
    """Adds `semseg pipe`, which runs until it is stopped or `--epochs` have been read."""
    parser = commands.add_parser(
        "pipe",
        help="stream an augmented manifest to a job in Pipe mode, as SageMaker does",
        description="Writes the images and annotations of a manifest into the pipes of a channel, one epoch after "
        "another, for a training in Pipe mode on this machine. It ends after --epochs, or when it is stopped.",
    )
    parser.set_defaults(run=_pipe)
    parser.add_argument("manifest", type=local_path, help="the manifest: a file with a JSON object in each line")
    parser.add_argument("directory", type=local_path, help="where to create the pipes: the job's input/data")
    parser.add_argument(
        "--channel",
        type=one_of(*SPLITS),
        default="train",
        metavar="|".join(SPLITS),
        help="the channel that is streamed (default: train)",
    )
    parser.add_argument("--label-attribute", metavar="KEY", help="the key of the annotation, if there are several")
    parser.add_argument(
        "--epochs",
        type=integer(1),
        metavar="INTEGER",
        help="the number of epochs to stream (default: until stopped)",
    )


def _pipe(arguments: argparse.Namespace) -> int:
    from semseg.data.manifest import list_manifest
    from semseg.data.pipe_writer import write_pipe
    from semseg.data.report import Report
    from semseg.data.s3 import ObjectStore
    from semseg.sagemaker.log_lines import set_up_logging

    set_up_logging()
    with ObjectStore() as store:
        listing = list_manifest(arguments.channel, arguments.manifest, store, arguments.label_attribute)
        Report((), listing.problems, ()).raise_problems()
        write_pipe(listing.pairs, arguments.directory, arguments.channel, arguments.epochs)
    return 0
