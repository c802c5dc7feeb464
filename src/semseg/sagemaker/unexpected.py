"""What is wrong with hyperparameters apart from their values, in the built-in algorithm's words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from semseg.errors import HyperparameterError


def missing(names: Sequence[str]) -> HyperparameterError:
    """Returns the error for required hyperparameters without a value."""
    listed = ", ".join(f"'{name}'" for name in names)
    return HyperparameterError(
        f"No value(s) were specified for {listed} which are required hyperparameter(s) (caused by ValidationError)",
        "",
        names[0] if len(names) == 1 else "",
        "is missing.",
    )


def text_of(name: str, value: object) -> str:
    """Returns a value as text, without one layer of quotes. Raises HyperparameterError for neither text nor number."""
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise HyperparameterError(
            f"The value of the {name[:100]!r} hyperparameter must be a string, not {type(value).__name__} "
            "(caused by ValidationError)",
            "Give the value in quotes, or leave the name out.",
            name,
            f"must be a string, not {type(value).__name__}.",
        )
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def is_the_platforms(name: str) -> bool:
    """Returns whether a hyperparameter is one that the platform adds for itself."""
    return name == "_tuning_objective_metric" or name.startswith("sagemaker_")


def unknown(name: str, known: Sequence[str]) -> str:
    """Returns a warning about an unknown private name. Raises HyperparameterError if the name is not private."""
    nearest = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    hint = f"Did you mean '{nearest[0]}'?" if nearest else f"The hyperparameters are {', '.join(known)}."
    if not name.startswith("_"):
        raise HyperparameterError(
            f"Additional properties are not allowed ({name[:100]!r} was unexpected) (caused by ValidationError)",
            hint,
            name,
            "is unknown.",
        )
    return f"The hyperparameter {name[:100]!r} is unknown and has no effect. {hint}"
