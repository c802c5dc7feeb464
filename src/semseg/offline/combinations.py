"""Evaluates a model with several engines, precisions and scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from semseg.artifact.model_dir import ModelDescription
from semseg.data.labelled_folder import LabelledFolder
from semseg.errors import ArtifactError, UserError
from semseg.inference.load import load_predictor
from semseg.inference.scaling import Scale, scale_of
from semseg.offline.evaluate import Evaluation, evaluate
from semseg.offline.model import Model


@dataclass(frozen=True)
class Combination:
    """An engine, a precision and a scale, by the words of the options."""

    engine: str
    precision: str
    scale: str


@dataclass(frozen=True)
class Outcome:
    """What was measured with a combination, or the error that prevented it.

    Engine and precision are those that computed; where the model could not be loaded, those that were asked for.
    """

    combination: Combination
    result: Evaluation | UserError | ArtifactError

    @property
    def title(self) -> str:
        """The combination in words."""
        return f"{self.combination.engine}, {self.combination.precision}, scale {self.combination.scale}"

    def failures(self) -> tuple[str, ...]:
        """A line for each image that could not be evaluated, or for the combination."""
        if isinstance(self.result, Evaluation):
            return self.result.failures
        return (f"{self.title}: {self.result}",)


def evaluate_all(
    directory: Path,
    model: ModelDescription,
    folder: LabelledFolder,
    choices: tuple[Sequence[str], Sequence[str], Sequence[str]],
    device: str,
    done: Callable[[], object],
    origin: str,
) -> Iterator[Outcome]:
    """Yields the outcome of each combination, of which one at a time is in memory.

    choices: engines, precisions and scales. device: one of `choose.DEVICES`. done: called after each image. origin:
    what errors call the directory. Raises UserError for a scale that the model does not have.
    """
    engines, precisions, scales = choices
    read = {text: scale_of(model, text) for text in scales}
    for engine, precision in product(engines, precisions):
        for outcome in _at_scales(directory, folder, (engine, precision, device), read, done):
            if not isinstance(outcome.result, Evaluation):
                outcome.result.message = outcome.result.message.replace(str(directory), origin)
            yield outcome


def _at_scales(
    directory: Path,
    folder: LabelledFolder,
    chosen: tuple[str, str, str],
    scales: Mapping[str, Scale],
    done: Callable[[], object],
) -> Iterator[Outcome]:
    """Yields the outcomes of one engine and precision; at the end, the model is no longer in memory.

    chosen: engine, precision and device. scales: by their text.
    """
    engine, precision, device = chosen
    try:
        model = Model(load_predictor(directory, engine, precision, place=device))
    except (UserError, ArtifactError) as error:
        yield from (Outcome(Combination(engine, precision, text), error.with_traceback(None)) for text in scales)
        return
    for text, scale in scales.items():
        combination = Combination(model.engine, model.precision, text)
        try:
            yield Outcome(combination, evaluate(model, folder, scale, done))
        except (UserError, ArtifactError) as error:
            yield Outcome(combination, error.with_traceback(None))  # which holds the model
