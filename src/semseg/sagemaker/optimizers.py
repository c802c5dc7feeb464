"""The table of optimizers, used for the hyperparameter's choices, its documentation, engines and tests.

To add one, add a line here, map names that differ in an engine's library (`engines/gluon/optimizers.py`), and save the
numbers that it keeps for all parameters together, if any, in checkpoints (`engines/gluon/optimizer_state.py`).
"""

from __future__ import annotations

from semseg.networks.definitions import listed

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "weight_decay"),
    "adam": (),
    "rmsprop": ("gamma1", "gamma2"),
    "adagrad": (),
    "nag": ("momentum", "weight_decay"),
}
"""The hyperparameters that each optimizer reads, besides learning_rate, which scales every step, and _gradient_clip.

nag is sgd with Nesterov momentum, rmsprop the centered variant (Graves, 2013). The first five are the built-in
algorithm's, in its order.
"""


def readers(hyperparameter: str) -> str:
    """Returns the optimizers that read a hyperparameter, for its documentation: "sgd and nag"."""
    return listed([name for name, read in OPTIMIZERS.items() if hyperparameter in read], "and")
