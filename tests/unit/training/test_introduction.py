from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.hyperparameters import parse
from semseg.training.introduction import hello
from semseg.training.ranks import Ranks


def job(**given: str) -> Any:
    """A job in Pipe mode, as far as hosts compare it."""
    settings, _ = parse({"num_classes": "2", **given})
    train, validation = (
        SimpleNamespace(
            split=SimpleNamespace(name=name, sharded=False), listing=None, label_map=SimpleNamespace(source={})
        )
        for name in ("train", "validation")
    )
    inputs = SimpleNamespace(train=train, validation=validation)
    return SimpleNamespace(settings=settings, inputs=inputs, ranks=Ranks(1, 2), hosts=Hosts("algo-1"))


def differing(one: Any, other: Any) -> list[str]:
    said, expected = hello(one).job, hello(other).job
    return [what for what in expected if said[what] != expected[what]]


def test_hosts_of_the_same_job_say_the_same() -> None:
    assert differing(job(), job()) == []
    assert differing(job(epochs="3"), job()) == ["the hyperparameters"]


def test_what_auto_has_chosen_by_the_gpu_is_not_taken_for_a_given_hyperparameter() -> None:
    says = "_engine or precision_dtype (auto follows the GPU of each)"
    assert differing(job(precision_dtype="bfloat16"), job(precision_dtype="float32")) == [says]
    assert differing(job(_engine="torch"), job(_engine="mxnet")) == [says]
