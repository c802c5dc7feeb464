"""How many ranks train a job, and where."""

from __future__ import annotations

from dataclasses import dataclass

from semseg.engines.choose import Trainer
from semseg.errors import HyperparameterError
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER


@dataclass(frozen=True)
class Ranks:
    """The ranks of a job: `local` on each of `hosts` hosts, of which this one is number `host`, from 0."""

    local: int = 1
    hosts: int = 1
    host: int = 0

    @property
    def size(self) -> int:
        """The number of all ranks."""
        return self.local * self.hosts

    @property
    def first(self) -> int:
        """The number of this host's first rank; its others follow."""
        return self.host * self.local

    @property
    def saves(self) -> bool:
        """Whether this host logs the training, and keeps checkpoints, model and results."""
        return self.host == 0


ONE_RANK = Ranks()
"""A training in the process of `train` itself."""


def plan_ranks(settings: Hyperparameters, hosts: Hosts, trainer: Trainer) -> Ranks:
    """Returns the ranks of a job: one for each GPU that trains, or `_ranks` on the CPU, the same on each host.

    More GPUs than images in one process are only worth a warning.
    Raises HyperparameterError for several hosts or `_ranks` if the engine trains in one process only, if there are more
    ranks than images in a batch, and for `_ranks` although GPUs train.
    """
    engine, cpu_ranks = trainer.engine, settings.ranks or 1
    if not engine.trains_in_groups:
        _require_one_process(hosts.count, cpu_ranks, engine.title)
        if trainer.gpus > settings.mini_batch_size:
            LOGGER.warning(
                "mini_batch_size is %d, but %d GPUs train: %d of them have nothing to do.",
                settings.mini_batch_size,
                trainer.gpus,
                trainer.gpus - settings.mini_batch_size,
            )
        return ONE_RANK
    if trainer.gpus and settings.ranks:
        raise HyperparameterError(
            f"_ranks is {settings.ranks}, but training uses GPUs, each with one process.",
            "Leave out _ranks and set _gpus, or set _device=cpu.",
        )
    ranks = Ranks(trainer.gpus or cpu_ranks, hosts.count, hosts.index)
    if ranks.size > settings.mini_batch_size:
        raise HyperparameterError(
            f"mini_batch_size is {settings.mini_batch_size}, but {ranks.size} devices train ({ranks.local} on each of "
            f"{ranks.hosts} hosts): it is the number of images in one update, over all devices.",
            f"Set mini_batch_size to {ranks.size} or more, or use fewer devices (_gpus, _ranks, InstanceCount).",
        )
    return ranks


def _require_one_process(hosts: int, ranks: int, title: str) -> None:
    if hosts > 1:
        raise HyperparameterError(
            f"The job has {hosts} hosts, but {title} trains on a single machine.",
            "Set InstanceCount to 1, or _engine=torch in the torch image: PyTorch trains on several hosts.",
        )
    if ranks > 1:
        raise HyperparameterError(
            f"_ranks is {ranks}, but {title} trains in a single process.", "Leave it out, or set _engine=torch."
        )
