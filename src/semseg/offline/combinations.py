"""Evaluates a model with several engines, precisions and scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from semseg.artifact.model_dir import ModelDescription
from semseg.data.labelled_folder import LabelledFolder
from semseg.errors import ArtifactError, UserError
from semseg.inference.load import load_predictor
from semseg.inference.scaling import scale_of
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
    """What was measured with a combination, or the error that prevented it. The engine is the one that computed."""

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
) -> Iterator[Outcome]:
    """Yields the outcome of each combination, of which one at a time is in memory.

    choices: engines, precisions and scales. device: one of `choose.DEVICES`. done: called after each image. Raises
    UserError for a scale that the model does not have.
    """
    engines, precisions, scales = choices
    read = {text: scale_of(model, text) for text in scales}
    for engine, precision in product(engines, precisions):
        try:
            loaded = Model(load_predictor(directory, engine, precision, place=device))
        except (UserError, ArtifactError) as error:
            yield from (Outcome(Combination(engine, precision, text), error) for text in scales)
            continue
        for text, scale in read.items():
            combination = Combination(loaded.engine, precision, text)
            try:
                yield Outcome(combination, evaluate(loaded, folder, scale, done))
            except (UserError, ArtifactError) as error:
                yield Outcome(combination, error)
