from __future__ import annotations

from dataclasses import fields

import pytest

from semseg.engines.protocols import OptimizerSettings
from semseg.sagemaker.hyperparameters import rules
from semseg.sagemaker.optimizers import OPTIMIZERS, readers


def test_those_of_the_built_in_algorithm_are_there_in_its_order() -> None:
    """The error for an unknown optimizer lists them in this order."""
    assert list(OPTIMIZERS)[:5] == ["sgd", "adam", "rmsprop", "adagrad", "nag"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_it_reads_can_be_given_and_reaches_the_engine(name: str) -> None:
    read = set(OPTIMIZERS[name])
    assert read <= {rule.name for rule in rules()}
    assert read <= {field.name for field in fields(OptimizerSettings)}


def test_the_documentation_names_all_that_read_a_hyperparameter() -> None:
    documented = {rule.name: rule.doc for rule in rules()}
    for name in set().union(*OPTIMIZERS.values()):
        assert documented[name].startswith(f"{readers(name)}: ")
    assert readers("momentum") == "sgd and nag"
