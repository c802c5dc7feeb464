"""Ranks that train in processes of their own, all in one run: each test reads what they found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_ranks
from numpy.typing import NDArray
from tiny_network import tiny_arrays
from torch_learners import no_dropout
from torch_ranks import (
    CASES,
    EXACT,
    OWN,
    RATE,
    ROUNDED,
    SEPARATE,
    SIZES,
    SYNCHRONISED,
    TOO_LARGE,
    Case,
    part,
    whole_batch,
)

from semseg.codecs.params import read_params
from semseg.engines.group import ALONE
from semseg.types import Arrays, Batch

Floats = NDArray[np.floating[Any]]

Read = Callable[[Case], list[Arrays]]
"""Returns what each rank of a case found."""

CLOSE = {"float32": 1e-5, "bfloat16": 0.01, "float16": 0.001}
"""The largest difference of an update from one process's, relative to its norm."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the ranks have written."""
    found = tmp_path_factory.mktemp("ranks")
    with ExitStack() as opened:
        listeners = [opened.enter_context(torch_ranks.listening()) for _ in SIZES]
        places = [f"{listener.getsockname()[1]}:{listener.fileno()}" for listener in listeners]
        process = opened.enter_context(torch_ranks.python(torch_ranks.__file__, found, *places, inherited=listeners))
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return found


@pytest.fixture(scope="module")
def read(folder: Path) -> Read:
    def of(case: Case) -> list[Arrays]:
        return [read_params(folder / f"{case} {rank}") for rank in range(len(case.split))]

    return of


@cache
def alone(case: Case) -> Arrays:
    """What one process finds."""
    return torch_ranks.trained(case)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_ranks_train_as_one_process_with_the_whole_batch(read: Read, case: Case) -> None:
    """Parameters, running statistics, the optimizer's state and the values, after each step, in float64."""
    expected, found = alone(case.one_process), read(case)[0]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.allclose(found[name], array, rtol=1e-9, atol=1e-11), name


def test_the_cases_differ_in_what_ranks_could_get_wrong() -> None:
    """Clipping shortens the gradient; a batch's images have other classes and other numbers of valid pixels."""
    free, clipped = (alone(Case("frozen", (4,), criterion)) for criterion in ("cross_entropy", "clipped"))
    longest = [max(abs(found["0/optimizer/head.4.bias/0"])) for found in (free, clipped)]
    assert longest[1] < longest[0] / 10
    valid = [(labels < 255).sum() for labels in whole_batch(4, 0).labels]
    assert len(set(valid)) == 4
    assert len(np.unique(whole_batch(4, 0).labels[0])) < len(np.unique(whole_batch(4, 0).labels))


@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_in_a_job_s_precisions_the_update_is_close_to_one_process_s(read: Read, case: Case) -> None:
    before = tiny_arrays()

    def update(found: Arrays) -> Floats:
        return np.concatenate([(found[f"0/parameter/{name}"] - before[name]).ravel() for name in before])

    expected, found = update(alone(case.one_process)), update(read(case)[0])
    assert np.linalg.norm(found - expected) < CLOSE[case.precision] * np.linalg.norm(expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_ranks_have_the_same_state_and_value_bit_for_bit(read: Read, case: Case) -> None:
    """So any of them can save a checkpoint, and all validate the same network."""
    first, *others = read(case)
    for found in others:
        assert [name for name, array in first.items() if (found[name] != array).any()] == []


def test_all_ranks_skip_an_update_that_overflows_float16(read: Read) -> None:
    for found in read(Case(SYNCHRONISED, (2, 1), precision="float16")):
        assert found["1/loss_scale/scale"] == TOO_LARGE / 2
        np.testing.assert_array_equal(found["1/parameter/head.4.bias"], found["0/parameter/head.4.bias"])


@pytest.mark.parametrize("case", SEPARATE, ids=str)
def test_without_syncbn_running_statistics_are_the_mean_over_the_images_of_each_rank_s(read: Read, case: Case) -> None:
    """Until the first update, after which the ranks' networks differ from that of one process with a rank's part."""
    batch = whole_batch(sum(case.split), 0)
    shares = np.array(case.split) / sum(case.split)
    parts = [after_one_step(part(batch, case.split, rank)) for rank, images in enumerate(case.split) if images]
    for name in (name for name in parts[0] if "running" in name):
        expected = sum(share * found[name] for share, found in zip(shares[shares > 0], parts, strict=True))
        np.testing.assert_allclose(read(case)[0][f"0/parameter/{name}"], expected, rtol=1e-9, err_msg=name)


def after_one_step(batch: Batch) -> Arrays:
    learner = torch_ranks.learner_of(Case(OWN, (len(batch),)), ALONE)
    learner.train_step(batch, RATE, 0)
    arrays: Arrays = learner.parameters()
    return arrays


def test_another_number_of_ranks_resumes_a_state(read: Read) -> None:
    """Here one process, with the state of four after their first step."""
    case = Case(SYNCHRONISED, (2, 0, 1, 1))
    found = read(case)[0]
    learner = torch_ranks.learner_of(case, ALONE)
    learner.restore(
        {name[2:]: array for name, array in found.items() if name.startswith("0/") and "/value" not in name}, "a test"
    )
    with no_dropout():
        value = float(learner.train_step(whole_batch(4, 1), RATE, 1))
    assert value == pytest.approx(float(found["1/value"][0]), rel=1e-9)
    for name, array in learner.state().items():
        np.testing.assert_allclose(array, found[f"1/{name}"], rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_ranks_that_start_with_other_parameters_do_not_train(folder: Path, size: int) -> None:
    says = {(folder / f"{size} {rank}.txt").read_text() for rank in range(size)}
    assert says == {
        f"Rank {size - 1} of the training starts with other parameters than rank 0. Give all hosts the same files, and "
        "the same version of this project."
    }


@pytest.mark.parametrize("size", SIZES)
def test_each_rank_has_a_dropout_of_its_own_that_a_step_s_seed_fixes(folder: Path, size: int) -> None:
    """Rank 0 has that of a training in one process."""
    seeds = [(folder / f"{size} {rank} seeds.txt").read_text() for rank in range(size)]
    assert seeds == [str([7 + rank] * 2) for rank in range(size)]
