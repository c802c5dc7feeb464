"""`train` on several ranks of one machine: one process's log, files and results, and no rank left alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from piped_jobs import fed, into_pipes, manifest_lines
from rank_processes import RANKS, await_end, ranks_of, values
from small_train import ENGINE

from semseg.codecs.params import read_params

PROGRESS = "#progress_notice. epoch: 0, iterations: 1"
FILES = ("model_algo-1", "model_best.params")


def lines_of(log: str) -> list[str]:
    """The log's lines without times, threads, speeds, folders and what is about ranks."""
    numbers = re.compile(r"^\[.*?\] |\d+\.\d+(e-\d+)?|\d{4,}|/\S+|Process \d+|, '_ranks': '\d'|'_ranks': '\d', ")
    return [numbers.sub("*", line) for line in log.splitlines() if "Training on 2 devices" not in line]


@pytest.fixture(scope="module")
def both(new_job: Callable[..., Any]) -> tuple[Any, str, Any, str]:
    """Jobs that one process and two ranks have trained, with their logs."""
    alone, ranks = new_job(), new_job()
    alone.configure(**{**RANKS, "_ranks": "1"})
    ranks.configure(**RANKS)
    (code, log), (ranks_code, ranks_log) = alone.run(), ranks.run()
    assert (code, ranks_code) == (0, 0), log + ranks_log
    return alone, log, ranks, ranks_log


def test_two_ranks_train_what_one_process_does(both: tuple[Any, str, Any, str]) -> None:
    """Ten images in batches of five, of which one rank has three and the other two."""
    alone, _, ranks, _ = both
    require_trained_alike(alone, ranks)


def require_trained_alike(alone: Any, ranks: Any) -> None:
    """Raises AssertionError unless two jobs have the same curve and the same models."""
    for one, other in zip(values(alone), values(ranks), strict=True):
        assert one["IOU"] == pytest.approx(other["IOU"], abs=1e-3)
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
    for name in FILES:
        expected, found = (read_params(job.paths.model / name) for job in (alone, ranks))
        assert expected.keys() == found.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-6)


def test_the_log_and_the_files_are_those_of_one_process(both: tuple[Any, str, Any, str]) -> None:
    alone, log, ranks, ranks_log = both
    assert lines_of(ranks_log) == lines_of(log)
    assert "Training on 2 devices, 2 on each of 1 hosts. An update takes 5 images, 2 or 3 on each device" in ranks_log
    files = [sorted(path.relative_to(job.paths.base) for path in job.paths.base.rglob("*")) for job in (alone, ranks)]
    assert files[0] == files[1]


def test_the_report_of_ranks_has_images_and_the_scores_on_whole_images(both: tuple[Any, str, Any, str]) -> None:
    """The first come from rank 0, the others from the process of `train`."""
    _, _, ranks, _ = both
    report = (ranks.paths.output_data / "report.html").read_text()
    for words in ("All epochs are done.", "IoU, whole validation", "Confusion matrix", "first of 2 ranks"):
        assert words in report
    assert report.count('alt="Prediction of validation/') >= 2
    assert "| 5 whole images of validation |" in (ranks.paths.model / "README.md").read_text()


def with_checkpoints(job: Any, **changes: str) -> Path:
    """Makes the job save a checkpoint after each update, in the directory returned."""
    directory: Path = job.paths.base / "kept"
    job.paths.checkpoint_config.write_text(json.dumps({"LocalPath": str(directory)}))
    job.configure(**(RANKS | {"_checkpoint_minutes": "0.000001"} | changes))
    return directory


@pytest.mark.parametrize("ranks", ["1", pytest.param("3", marks=pytest.mark.slow)])
def test_a_stopped_training_resumes_on_another_number_of_ranks(
    both: tuple[Any, str, Any, str], job: Any, ranks: str
) -> None:
    """SIGTERM reaches the process of `train` alone, as from the platform."""
    directory = with_checkpoints(job)
    code, log = job.run_until("checkpoint-0000-000001.params")
    assert code == 0, log
    assert "Stopping on request: saving the current model." in log
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["checkpoint-0000-000001.params", "checkpoint-0000-000002.params"]
    shutil.rmtree(job.paths.model)
    with_checkpoints(job, _ranks=ranks, _checkpoint_minutes="60")
    code, log = job.run()
    assert code == 0, log
    assert "checkpoint-0000-000002.params, after 0 epochs and 2 iterations." in log
    for one, other in zip(values(both[0]), values(job), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["mIOU"] == pytest.approx(other["mIOU"], abs=1e-3)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_the_job_with_a_failure_that_names_it(job: Any, killed: int) -> None:
    job.configure(**RANKS)
    with job.start(hold_at=PROGRESS) as process:
        assert next(line for line in process.stdout if PROGRESS in line)
        ranks = ranks_of(process)
        assert len(ranks) == 2
        os.kill(ranks[killed], signal.SIGKILL)
        if killed:
            os.kill(ranks[0], signal.SIGUSR1)  # go on
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    failure = job.paths.failure.read_text()
    assert failure.startswith(f"AlgorithmError: Rank {killed} of 2 (on algo-1) was killed by SIGKILL, perhaps for lack")
    assert failure.splitlines()[0] in log
    await_end(ranks)


def test_no_rank_outlives_the_process_that_started_it(job: Any) -> None:
    """Not even one that waits for others; multiprocessing's own helper ends too."""
    job.configure(**RANKS)
    with job.start(hold_at=PROGRESS) as process:
        assert next(line for line in process.stdout if PROGRESS in line)
        ranks = ranks_of(process)
        process.kill()
        process.stdout.read()  # ends when no process has it open any more
    assert len(ranks) == 2
    await_end(ranks)
    assert "died without reporting a reason" in job.paths.failure.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_ranks": "5", "mini_batch_size": "4"}, "mini_batch_size is 4, but 5 devices train (5 on each of 1 hosts)"),
        ({"_ranks": "2", "_gpus": "1"}, "_gpus is 1, but Small can use 0 on this machine"),
    ],
)
def test_ranks_that_cannot_train_are_errors_before_any_image_is_read(
    job: Any, changes: dict[str, str], message: str
) -> None:
    job.configure(**(RANKS | changes))
    code, log = job.run()
    assert code == 1
    assert message in log
    assert job.paths.failure.read_text().startswith(f"ClientError: {message}")
    assert not (job.paths.output_data / "data_report.json").exists()


@pytest.mark.needs("torch")
def test_two_ranks_of_pytorch_train_what_one_process_does_and_a_killed_one_is_named(
    new_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over gloo, whose errors on the other rank are not taken for the cause."""
    monkeypatch.setenv(ENGINE, "torch")
    alone, ranks = new_job(), new_job()
    alone.configure(**(RANKS | {"_ranks": "1", "learning_rate": "0.01"}))
    ranks.configure(**(RANKS | {"learning_rate": "0.01"}))
    for job in (alone, ranks):
        code, log = job.run()
        assert code == 0, log
    for one, other in zip(values(alone), values(ranks), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["mIOU"] == pytest.approx(other["mIOU"], abs=1e-3)

    with ranks.start(hold_at=PROGRESS) as process:
        assert next(line for line in process.stdout if PROGRESS in line)
        first, second = ranks_of(process)
        os.kill(second, signal.SIGKILL)
        os.kill(first, signal.SIGUSR1)  # go on
        process.communicate(timeout=60)
    assert process.returncode == 2
    assert ranks.paths.failure.read_text().startswith("AlgorithmError: Rank 1 of 2 (on algo-1) was killed by SIGKILL")


@pytest.fixture(scope="module")
def streets(new_job: Callable[..., Any]) -> dict[str, Path]:
    """Manifests of ten pairs to train on and five to validate."""
    data = new_job().paths.channel("")
    for split in ("train", "validation"):
        (data / f"{split}.manifest").write_text(manifest_lines(data, split, ""))
    return {split: data / f"{split}.manifest" for split in ("train", "validation")}


def piped(job: Any, **changes: str) -> Any:
    """The job, in Pipe mode."""
    into_pipes(job)
    job.configure(**(RANKS | {"num_training_samples": "10", "mini_batch_size": "4"} | changes))
    return job


@pytest.mark.parametrize(
    ("samples", "size"),
    [("10", "4"), pytest.param("22", "4", marks=pytest.mark.slow), pytest.param("1", "4", marks=pytest.mark.slow)],
)
def test_two_ranks_train_on_pipes_what_one_process_does(
    new_job: Callable[..., Any], streets: dict[str, Path], samples: str, size: str
) -> None:
    """Ten pairs in batches of four, of which two are left for the next epoch. Fewer than num_training_samples says end
    the epochs early; with one image in a batch the other rank has none.
    """
    both = [piped(new_job(), num_training_samples=samples, mini_batch_size=size, _ranks=ranks) for ranks in ("1", "2")]
    logs = []
    for job in both:
        with fed(job.paths, streets):
            code, log = job.run()
        assert code == 0, log
        logs.append(lines_of(log))
    alone, ranks = both
    assert logs[0] == logs[1]
    require_trained_alike(alone, ranks)


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_while_it_feeds_others_or_is_fed_is_named(
    job: Any, streets: dict[str, Path], killed: int
) -> None:
    piped(job)
    with fed(job.paths, streets), job.start(hold_at=PROGRESS) as process:
        assert next(line for line in process.stdout if PROGRESS in line)
        ranks = ranks_of(process)
        os.kill(ranks[killed], signal.SIGKILL)
        if killed:
            os.kill(ranks[0], signal.SIGUSR1)  # go on
        process.communicate(timeout=60)
    assert process.returncode == 2
    assert job.paths.failure.read_text().startswith(f"AlgorithmError: Rank {killed} of 2 (on algo-1) was killed by")
    await_end(ranks)


def test_a_record_that_no_rank_can_read_is_an_error_that_names_it(job: Any, streets: dict[str, Path]) -> None:
    """Not one of the rank that waits for its images."""
    piped(job, num_classes="2")
    with fed(job.paths, streets):
        code, log = job.run()
    assert code == 1, log
    assert re.match(
        r"ClientError: Rank 0 of 2 \(on algo-1\): record \d+ of train_0: pixel values", job.paths.failure.read_text()
    )


@pytest.mark.slow
def test_sigterm_while_ranks_train_on_pipes_saves_the_model(job: Any, streets: dict[str, Path]) -> None:
    piped(job)
    with fed(job.paths, streets):
        code, log = job.run_until(PROGRESS)
    assert code == 0, log
    assert "Stopping on request: saving the current model." in log
    assert (job.paths.model / "model_algo-1").is_file()


def test_sigterm_while_ranks_wait_for_a_pipe_ends_well(job: Any) -> None:
    piped(job)
    code, log = job.run_until("Training on 2 devices")
    assert code == 0, log
    assert "Stopped before the first training step" in log
