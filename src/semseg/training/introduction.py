"""What a host says of its job to the other hosts, and what it learns of theirs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from semseg.errors import GroupError, first_few
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.inputs import fingerprint
from semseg.training.job import Job
from semseg.training.meeting import Hello
from semseg.version import __version__

PAIRS = "pairs"


def hello(job: Job) -> Hello:
    """Returns what this host says: what must be the same on all hosts, as digests, and its number of training pairs.

    Of a channel that is ShardedByS3Key each host has other files.
    """
    splits = (job.inputs.train, job.inputs.validation)
    settings, listing = job.settings.as_strings(), job.inputs.train.listing
    chosen = {name: settings.pop(name) for name in ("_engine", "precision_dtype")}
    if listing and job.inputs.train.split.sharded:
        del settings["num_training_samples"]  # which may be counted
    same = {
        "the version of this software": __version__,
        "the hyperparameters": _digest(settings),
        "_engine or precision_dtype (auto follows the GPU of each)": _digest(chosen),
        "the number of devices that train on each": str(job.ranks.local),
        "what ShardedByS3Key divides": _digest({one.split.name: str(one.split.sharded) for one in splits}),
        "the files of their channels": _digest(fingerprint([one for one in splits if not one.split.sharded])),
    }
    return Hello(job.hosts.current, same, {PAIRS: len(listing.pairs) if listing else 0})


def with_facts(job: Job, facts: Mapping[str, Any]) -> Job:
    """Returns the job with what its hosts, if several, have learned: how many training pairs they have together, unless
    these come from pipes.

    Raises GroupError for numbers that are none, which only another version of this software sends.
    """
    if not facts or not job.inputs.train.split.sharded or not job.inputs.train.listing:
        return job
    counts: list[Any] = [fact.get(PAIRS) if isinstance(fact, dict) else None for fact in facts.values()]
    if any(type(count) is not int or not 0 < count < 1 << 31 for count in counts):
        raise GroupError(f"The hosts have sent {first_few(counts)} as their numbers of training pairs.")
    total, own = int(sum(counts)), facts[job.hosts.current][PAIRS]
    LOGGER.info("The %d hosts have %d pairs of the train channel in all.", job.hosts.count, total)
    return dataclasses.replace(job, pairs=total, samples=total if job.samples == own else job.samples)


def _digest(values: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
