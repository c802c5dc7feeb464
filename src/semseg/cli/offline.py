"""Commands that run a model over folders: `predict` and `evaluate`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from semseg.cli.options import MODEL, Commands, add_folders
from semseg.cli.parser import did_you_mean, local_path, location, one_of
from semseg.errors import SemsegError, UserError, count_of

if TYPE_CHECKING:
    from semseg.artifact.model_dir import ModelDescription
    from semseg.data.labelled_folder import LabelledFolder
    from semseg.offline.combinations import Outcome
    from semseg.offline.sources import Source

_VARIABLES = {"SEMSEG_BACKEND": "--engine", "SEMSEG_PRECISION": "--precision"}
"""The settings of the server that are options here, by their names in messages."""


def add_predict(commands: Commands) -> None:
    """Adds `semseg predict`, which exits with 1 if an image could not be segmented."""
    parser = commands.add_parser(
        "predict",
        help="segment images with a model and write their masks",
        description="Writes the mask of each image, or what --save names. The results mirror the folders of the "
        "images. An image that cannot be segmented is listed at the end, and does not keep the others from it; the "
        "exit code is then 1. class_shares.csv has each image's size, and the share of each class in it.",
    )
    parser.set_defaults(run=_predict)
    parser.add_argument("model", type=location, help=MODEL)
    parser.add_argument(
        "images", nargs="+", type=location, help="files, folders with all they hold, patterns, s3://bucket/prefix"
    )
    parser.add_argument("--out", type=local_path, required=True, metavar="DIR", help="the folder for the results")
    parser.add_argument(
        "--save",
        default="mask",
        metavar="WHAT",
        help="one or more of mask, color, overlay, npy (probabilities) and json, joined by commas (default: mask)",
    )
    parser.add_argument(
        "--palette",
        metavar="model|voc|ade20k|cityscapes",
        help="the colours, also for mask",
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave out images whose results are there")
    _add_network_options(parser)


def add_evaluate(commands: Commands) -> None:
    """Adds `semseg evaluate`, which exits with 1 if an image or a combination could not be evaluated."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on annotated images",
        description="Segments whole images, as the server does, and compares them with their annotations: per class "
        "IoU, precision, recall, F1 and boundary F1, their means, and the images with the lowest mIOU. With several "
        "engines, precisions or scales, each combination has a line.",
    )
    parser.set_defaults(run=_evaluate)
    parser.add_argument("model", type=location, help=MODEL)
    add_folders(parser, "a folder of images", masks_required=True)
    parser.add_argument(
        "--out", type=local_path, metavar="DIR", help="the folder for evaluation.json, report.html and the worst images"
    )
    _add_network_options(parser, several=True)


def _add_network_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    more = "; several are joined by commas" if several else ""
    parser.add_argument(
        "--scale",
        default="model",
        help="the size at which the network gets images: model (as the model says), none (their own), base (about that "
        f"of the training), or a factor such as 0.5 (default: model){more}",
    )
    parser.add_argument(
        "--engine", default="auto", metavar="NAME", help=f"auto, mxnet, openvino or torch (default: auto){more}"
    )
    parser.add_argument(
        "--precision", default="auto", metavar="NAME", help=f"auto, f32, bf16 or int8 (default: auto){more}"
    )
    parser.add_argument(
        "--device",
        type=one_of("auto", "cpu", "gpu"),
        default="auto",
        metavar="auto|cpu|gpu",
        help="the device that computes (default: auto)",
    )


def _predict(arguments: argparse.Namespace) -> int:
    from semseg.data.s3 import ObjectStore
    from semseg.offline.model import PALETTES, load
    from semseg.offline.outputs import OUTPUTS
    from semseg.offline.predict import plan, predict
    from semseg.offline.sources import find_images

    outputs = [OUTPUTS[name] for name in _words("--save", arguments.save, OUTPUTS)]
    palette = arguments.palette and _word("--palette", arguments.palette, PALETTES)
    engines, precisions = _engines(arguments)
    if len(engines) + len(precisions) > 2:
        raise UserError("`semseg predict` takes one engine and one precision.", "`semseg evaluate` compares several.")
    with ObjectStore(caching=False) as store, _naming_options():
        sources = find_images(arguments.images, store, arguments.out)
        model = load(arguments.model, engines[0], precisions[0], arguments.device, arguments.scale)
        planned = plan(sources, arguments.out, outputs, palette, model.class_names, skip=arguments.skip_existing)
        return _report_predictions(predict(model, planned), len(planned.todo), len(sources) - len(planned.todo))


def _report_predictions(done: Generator[tuple[Source, UserError | None], None, None], todo: int, skipped: int) -> int:
    """Shows the progress of `predict`, prints its failures and a summary, and returns the exit code."""
    from tqdm import tqdm

    from semseg.data.files import described
    from semseg.reporting.wrapping import say

    failures: list[str] = []
    finished = 0
    try:
        with closing(done), tqdm(total=todo, unit="image", disable=None, leave=False) as bar:
            for source, error in done:
                finished += 1
                failures += [described(source.file, error)] if error else []
                bar.update()
    except KeyboardInterrupt:
        say(f"Stopped after {finished} of {todo} images; --skip-existing continues.")
        raise
    finally:
        for failure in failures:
            say(f"semseg: {failure}")
    parts = [f"{count_of(todo - len(failures), 'image')} segmented", f"{skipped} left out" if skipped else ""]
    print(", ".join(filter(None, [*parts, f"{len(failures)} failed" if failures else ""])) + ".")
    return UserError.exit_code if failures else 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from semseg.artifact.model_dir import describe
    from semseg.data.labelled_folder import open_labelled
    from semseg.offline.combinations import evaluate_all
    from semseg.offline.evaluation_report import require_place
    from semseg.offline.located import located, name_of
    from semseg.reporting.wrapping import say

    engines, precisions = _engines(arguments)
    choices = engines, precisions, list(dict.fromkeys(text.strip() for text in arguments.scale.split(",")))
    with located(arguments.model) as directory, _naming_options():
        model = describe(directory)
        folder = open_labelled(
            arguments.images,
            arguments.annotations,
            arguments.label_map,
            model.num_classes,
            arguments.suffix,
            model.label_maps,
        )
        say(f"semseg: The annotations are read by {folder.reading}.")
        if arguments.out:
            require_place(arguments.out)  # before the work whose results would be lost
        origin = name_of(directory, arguments.model)
        total = len(folder.pairs) * math.prod(map(len, choices))
        outcomes: list[Outcome] = []
        try:
            with tqdm(total=total, unit="image", disable=None, leave=False) as bar:
                done = bar.update
                outcomes.extend(evaluate_all(directory, model, folder, choices, arguments.device, done, origin))
        finally:  # what was measured is not lost when an interrupt or an error ends the others
            if outcomes:
                _show(arguments, outcomes, model, folder)
    failures = [failure for outcome in outcomes for failure in outcome.failures()]
    for failure in dict.fromkeys(failures):
        say(f"semseg: {_in_options(failure)}")
    return UserError.exit_code if failures else 0


def _show(
    arguments: argparse.Namespace, outcomes: Sequence[Outcome], model: ModelDescription, folder: LabelledFolder
) -> None:
    """Prints what was measured, and writes it if --out is given."""
    from semseg.offline.evaluation_report import as_text, write

    classes = model.classes.completed(folder.classes)
    if text := as_text(outcomes, classes.titles):
        print(text)
    if arguments.out:
        settings = {
            "model": arguments.model,
            "images": str(arguments.images),
            "annotations": str(arguments.annotations),
            "label_map": folder.reading,
            "params_sha256": model.digest,
        }
        write(arguments.out, outcomes, classes, folder, settings)


def _engines(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The engines and the precisions. Raises UserError for words that are none."""
    from semseg.engines.choose import SERVING
    from semseg.engines.protocols import PRECISIONS

    return _words("--engine", arguments.engine, SERVING), _words("--precision", arguments.precision, PRECISIONS)


def _words(option: str, text: str, known: Iterable[str]) -> list[str]:
    """The words of a list such as `mask,overlay`, each once. Raises UserError for one that is not known."""
    return list(dict.fromkeys(_word(option, word.strip(), known) for word in text.split(",")))


def _word(option: str, word: str, known: Iterable[str]) -> str:
    if word not in known:
        raise UserError(f"{option} has {word!r:.100}: it takes {', '.join(known)}.{did_you_mean(word, known)}")
    return word


@contextmanager
def _naming_options() -> Iterator[None]:
    """Within the block, errors name options where the server's name variables."""
    try:
        yield
    except SemsegError as error:
        error.message, error.hint = _in_options(error.message), _in_options(error.hint)
        raise


def _in_options(text: str) -> str:
    for variable, option in _VARIABLES.items():
        text = text.replace(variable, option)
    return text
