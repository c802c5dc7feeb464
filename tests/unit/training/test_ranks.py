from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from semseg.engines.choose import Trainer
from semseg.engines.protocols import Device
from semseg.errors import HyperparameterError, UserError
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.hyperparameters import parse
from semseg.training.ranks import ONE_RANK, Ranks, plan_ranks

ALONE, SECOND_OF_THREE = Hosts("algo-1"), Hosts("algo-2", names=("algo-1", "algo-2", "algo-3"))


@dataclass
class Fake:
    """An engine."""

    trains_in_groups: bool
    title: str = "Fake"


def planned(hosts: Hosts, gpus: int = 0, in_groups: bool = True, **given: str) -> Ranks:
    engine: Any = Fake(in_groups)
    settings, _ = parse({"num_classes": "2", **given})
    return plan_ranks(settings, hosts, Trainer(engine, Device("a device", gpus), "float32"))


def test_one_rank_for_each_gpu_or_as_many_as_wanted_on_the_cpu() -> None:
    assert planned(ALONE) == planned(ALONE, gpus=1) == planned(ALONE, _ranks="1") == ONE_RANK
    assert planned(ALONE, gpus=4) == Ranks(4)
    assert planned(ALONE, _ranks="2") == Ranks(2)


def test_ranks_follow_the_hosts() -> None:
    ranks = planned(SECOND_OF_THREE, gpus=4)
    assert (ranks.size, ranks.first, ranks.saves) == (12, 4, False)
    assert planned(SECOND_OF_THREE).size == 3


def test_a_batch_has_an_image_for_each_rank() -> None:
    assert planned(SECOND_OF_THREE, gpus=4, mini_batch_size="12").size == 12
    with pytest.raises(HyperparameterError) as error:
        planned(SECOND_OF_THREE, gpus=4, mini_batch_size="11")
    assert str(error.value) == (
        "mini_batch_size is 11, but 12 devices train (4 on each of 3 hosts): it is the number of images in one update, "
        "over all devices. Set mini_batch_size to 12 or more, or use fewer devices (_gpus, _ranks, InstanceCount)."
    )


@pytest.mark.parametrize(("images", "said"), [("3", ["mini_batch_size is 3, but 4 GPUs train: 1 of them"]), ("4", [])])
def test_gpus_of_one_process_that_have_nothing_to_do_are_worth_a_warning(
    images: str, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert planned(ALONE, gpus=4, in_groups=False, mini_batch_size=images) == ONE_RANK
    assert [message[: len(text)] for message, text in zip(caplog.messages, said, strict=True)] == said


def test_ranks_are_of_cpus() -> None:
    with pytest.raises(HyperparameterError, match="_ranks is 2, but training uses GPUs, each with one process"):
        planned(ALONE, gpus=2, _ranks="2")


@pytest.mark.req("R55")
def test_an_engine_of_one_process_trains_on_one_host() -> None:
    assert planned(ALONE, gpus=1, in_groups=False) == ONE_RANK
    with pytest.raises(UserError, match=r"The job has 3 hosts, but Fake trains on a single machine.*_engine=torch"):
        planned(SECOND_OF_THREE, in_groups=False)
    with pytest.raises(HyperparameterError, match="_ranks is 2, but Fake trains in a single process"):
        planned(ALONE, in_groups=False, _ranks="2")
