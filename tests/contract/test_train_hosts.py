"""`train` on several hosts: network namespaces of this machine, or addresses of its loopback interface."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import net_hosts
import pytest
from piped_jobs import fed, into_pipes, manifest_lines
from rank_processes import RANKS, await_end, ranks_of, values
from small_train import ENGINE, FIRST_PORT

from semseg.training.host_link import SILENCE_SECONDS

PROGRESS, SAVED = "#progress_notice. epoch: 0, iterations: 1", "checkpoint-0000-000001.params"
WITHIN = 120
"""Seconds within which all hosts must end once one of them is lost."""


@dataclass
class Hosts:
    """The jobs of the hosts of one training, by host; the first one keeps checkpoints."""

    jobs: list[Any]
    names: list[str]

    def configure(self, **changes: str) -> None:
        for job in self.jobs:
            directory = job.paths.base / "kept"
            job.paths.checkpoint_config.write_text(json.dumps({"LocalPath": str(directory)}))
            job.configure(**(RANKS | {"_ranks": "1", "_checkpoint_minutes": "0.000001"} | changes))

    def run(self) -> list[tuple[int, str]]:
        return self.ended([job.start() for job in self.jobs])

    def held(self, words: str = SAVED) -> list[subprocess.Popen[str]]:
        """Starts them; the first one's rank waits for a signal when it has logged these words."""
        started = [job.start(hold_at=words if job is self.jobs[0] else "") for job in self.jobs]
        assert started[0].stdout
        assert next(line for line in started[0].stdout if words in line)
        return started

    def ended(self, processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
        """The exit codes and logs, once all have ended."""
        deadline, found = time.monotonic() + WITHIN, []
        try:
            for process in processes:
                log, _ = process.communicate(timeout=max(1, deadline - time.monotonic()))
                found.append((process.returncode, log))
        finally:
            for process in processes:
                process.kill()
        return found

    def failure(self, host: int) -> str:
        text: str = self.jobs[host].paths.failure.read_text()
        return text.splitlines()[0]


def hosts_of(new_job: Callable[..., Any], names: list[str], interface: str, prefixes: list[tuple[str, ...]]) -> Hosts:
    jobs = []
    for name, prefix in zip(names, prefixes, strict=True):
        job = new_job()
        config = {"current_host": name, "hosts": names, "network_interface_name": interface}
        job.paths.resource_config.write_text(json.dumps(config))
        jobs.append(type(job)(job.paths, (*prefix, *job.command)))
    hosts = Hosts(jobs, names)
    hosts.configure()
    return hosts


@pytest.fixture
def on_loopback(new_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Two hosts, of which the first listens on ports that no other test uses."""
    monkeypatch.setenv(FIRST_PORT, str(20000 + os.getpid() * 2 % 10000))
    return hosts_of(new_job, ["127.0.0.1", "127.0.0.2"], "lo", [(), ()])


@pytest.fixture(scope="module")
def alone(new_job: Callable[..., Any]) -> Any:
    """A job that one process has trained."""
    job = new_job()
    job.configure(**(RANKS | {"_ranks": "1"}))
    code, log = job.run()
    assert code == 0, log
    return job


def require_equal(one: Any, other: Any) -> None:
    """The float32 parameters differ by the order in which the ranks' parts are added."""
    for expected, found in zip(values(one), values(other), strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert found["mIOU"] == pytest.approx(expected["mIOU"], abs=1e-3)


def test_two_hosts_train_as_one_process_and_the_first_keeps_all_results(on_loopback: Hosts, alone: Any) -> None:
    (code, log), (other_code, other_log) = on_loopback.run()
    assert (code, other_code) == (0, 0), log + other_log
    first, second = (job.paths for job in on_loopback.jobs)
    require_equal(alone, on_loopback.jobs[0])
    assert {path.name for path in first.model.iterdir()} == {path.name for path in alone.paths.model.iterdir()}
    written = [path for path in second.base.rglob("*") if path.is_file() and "input" not in path.parts]
    assert written == []
    assert "#quality_metric" not in other_log
    assert "#metrics" not in other_log


def fed_hosts(hosts: Hosts, data: Path, lines: list[int], sharded: bool = False) -> list[tuple[int, str]]:
    """Trains on pipes: so many of the pairs in `data`, the first ones or, for the second host, the last ones."""
    distribution = "ShardedByS3Key" if sharded else "FullyReplicated"
    with ExitStack() as writers:
        for host, (job, count) in enumerate(zip(hosts.jobs, lines, strict=True)):
            into_pipes(job, S3DistributionType=distribution)
            manifests = {split: data / f"{split}{host}.manifest" for split in ("train", "validation")}
            for split, path in manifests.items():
                found = manifest_lines(data, split, "").splitlines(keepends=True)
                taken = found if split == "validation" else found[-count:] if host else found[:count]
                path.write_text("".join(taken))
            writers.enter_context(fed(job.paths, manifests))
        return hosts.run()


@pytest.mark.slow
def test_hosts_with_the_same_pipes_train_as_one_process(on_loopback: Hosts, new_job: Callable[..., Any]) -> None:
    """Each host's reader makes its host's part of each batch, and the second rank of each gets its images."""
    one = Hosts([new_job()], ["algo-1"])
    for hosts, ranks in ((one, "1"), (on_loopback, "2")):
        hosts.configure(num_training_samples="10", mini_batch_size="4", _ranks=ranks)
        found = fed_hosts(hosts, new_job().paths.channel(""), [10] * len(hosts.jobs))
        assert {code for code, _ in found} == {0}, found
    require_equal(one.jobs[0], on_loopback.jobs[0])


@pytest.mark.slow
def test_the_first_host_without_a_batch_ends_the_epoch_of_all(on_loopback: Hosts, new_job: Callable[..., Any]) -> None:
    """ShardedByS3Key, batches of five: the first host has eight pairs, three for a batch, the second two for one."""
    on_loopback.configure(num_training_samples="10", _ranks="2")
    found = fed_hosts(on_loopback, new_job().paths.channel(""), [8, 2], sharded=True)
    assert [code for code, _ in found] == [0, 0], found
    steps = re.findall(r"#progress_notice. epoch: (\d), iterations: (\d)(?=.* learning_rate)", found[0][1])
    assert steps == [("0", "1"), ("1", "1")]
    assert len(values(on_loopback.jobs[0])) == 2


def test_damaged_data_of_one_host_ends_both_with_its_reason(on_loopback: Hosts) -> None:
    image = sorted(on_loopback.jobs[1].paths.channel("train").iterdir())[0]
    image.write_bytes(image.read_bytes()[:200])
    found = on_loopback.run()
    assert [code for code, _ in found] == [1, 1], found
    reason = on_loopback.jobs[1].paths.failure.read_text().removeprefix("ClientError: ")
    assert image.name in reason
    expected = f"ClientError: The host 127.0.0.2 cannot take part in the training: {reason}"
    assert on_loopback.jobs[0].paths.failure.read_text() == expected


@pytest.mark.slow
def test_a_stop_of_one_host_ends_both_though_the_other_waits_for_its_pipe(
    on_loopback: Hosts, new_job: Callable[..., Any]
) -> None:
    """Nothing comes to validate on, and the rank of the other host would learn of the stop only after a batch."""
    on_loopback.configure(num_training_samples="10", mini_batch_size="4")
    data = new_job().paths.channel("")
    (data / "train.manifest").write_text(manifest_lines(data, "train", ""))
    with ExitStack() as writers:
        for job in on_loopback.jobs:
            into_pipes(job)
            writers.enter_context(fed(job.paths, {"train": data / "train.manifest"}))
        processes = on_loopback.held("epoch: 0, train loss")
        processes[0].send_signal(signal.SIGTERM)
        found = on_loopback.ended(processes)
    assert [code for code, _ in found] == [0, 0], found
    assert "Stopping on request: saving the current model." in found[0][1]


def test_hosts_with_other_hyperparameters_are_an_error_on_both(on_loopback: Hosts) -> None:
    on_loopback.jobs[1].configure(**(RANKS | {"_ranks": "1", "learning_rate": "0.5"}))
    found = on_loopback.run()
    assert [code for code, _ in found] == [1, 1], found
    for host in range(2):
        assert on_loopback.failure(host).startswith(
            "ClientError: The hosts 127.0.0.1 and 127.0.0.2 differ in the hyperparameters."
        )


def test_hosts_with_other_files_each_agree_on_the_steps(on_loopback: Hosts) -> None:
    """ShardedByS3Key: of the ten pairs of each, the second host lacks four; batches of five."""
    for job in on_loopback.jobs:
        names = ("train", "train_annotation", "validation", "validation_annotation")
        config = {
            name: {"S3DistributionType": "ShardedByS3Key" if "train" in name else "FullyReplicated"} for name in names
        }
        job.paths.input_data_config.write_text(json.dumps(config))
    second = on_loopback.jobs[1].paths
    for number, (image, mask) in enumerate(
        zip(*(sorted(second.channel(name).iterdir()) for name in ("train", "train_annotation")), strict=True)
    ):
        if number < 4:
            image.unlink()
            mask.unlink()
    found = on_loopback.run()
    assert [code for code, _ in found] == [0, 0], found
    assert "The 2 hosts have 16 pairs of the train channel in all." in found[0][1]
    assert "LRScheduler setup: iters per epoch: 3, num_epochs 2" in found[0][1]
    assert [epoch["epoch"] for epoch in values(on_loopback.jobs[0])] == [0, 1]
    assert len(re.findall(r"epoch: [01], iterations: \d speed: \S+ samples/sec learning_rate", found[0][1])) == 6


def test_a_host_that_never_comes_is_named(on_loopback: Hosts) -> None:
    on_loopback.configure(_rendezvous_minutes="0.03")
    (found,) = on_loopback.ended([on_loopback.jobs[0].start()])
    assert found[0] == 2
    assert on_loopback.failure(0).startswith(
        "AlgorithmError: Of the 2 hosts of the job, these have not come within 0.03 minutes: 127.0.0.2."
    )
    (found,) = on_loopback.ended([on_loopback.jobs[1].start()])
    assert found[0] == 2
    assert "The first host of the job, 127.0.0.1, has not begun within 0.03 minutes: it cannot be reached (" in (
        on_loopback.failure(1)
    )


def test_a_host_that_is_killed_is_named_by_the_other(on_loopback: Hosts) -> None:
    processes = on_loopback.held()
    ranks = [rank for process in processes for rank in ranks_of(process)]
    processes[1].kill()
    found = on_loopback.ended(processes)
    assert [code for code, _ in found] == [2, -signal.SIGKILL]
    assert on_loopback.failure(0).startswith("AlgorithmError: The host 127.0.0.2 has ended, or its connection is lost")
    await_end(ranks)


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stop_of_one_host_saves_a_checkpoint_and_ends_both(on_loopback: Hosts, stopped: int) -> None:
    on_loopback.configure(epochs="1000", _checkpoint_minutes="60")
    processes = on_loopback.held(PROGRESS)
    processes[stopped].send_signal(signal.SIGTERM)
    if stopped:
        os.kill(ranks_of(processes[0])[0], signal.SIGUSR1)  # go on
    found = on_loopback.ended(processes)
    assert [code for code, _ in found] == [0, 0], found
    assert "Stopping on request: saving the current model." in found[0][1]
    assert list((on_loopback.jobs[0].paths.base / "kept").glob("checkpoint-*.params"))
    assert not any(job.paths.failure.exists() for job in on_loopback.jobs)


@pytest.mark.slow
def test_one_host_resumes_what_two_have_begun(on_loopback: Hosts, alone: Any) -> None:
    processes = on_loopback.held()
    processes[0].send_signal(signal.SIGTERM)
    assert [code for code, _ in on_loopback.ended(processes)] == [0, 0]
    job = on_loopback.jobs[0]
    job.paths.resource_config.unlink()
    code, log = job.run()
    assert code == 0, log
    assert re.search(r"checkpoint-0000-00000\d\.params, after 0 epochs and \d iteration", log)
    require_equal(alone, job)


@pytest.fixture(scope="module")
def in_network() -> Iterator[net_hosts.Network]:
    if reason := net_hosts.impossible():
        pytest.skip(reason)
    with net_hosts.network(3) as made:
        yield made


@pytest.fixture
def three(in_network: net_hosts.Network, new_job: Callable[..., Any]) -> Hosts:
    prefixes = [in_network.prefix(number) for number in range(3)]
    return hosts_of(new_job, in_network.addresses, net_hosts.INTERFACE, prefixes)


@pytest.mark.hosts
@pytest.mark.needs("torch")
def test_three_hosts_with_pytorch_train_as_one_process_and_a_killed_one_is_named(
    three: Hosts, new_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over gloo, on the interface between the hosts."""
    monkeypatch.setenv(ENGINE, "torch")
    alone = new_job()
    alone.configure(**(RANKS | {"_ranks": "1", "learning_rate": "0.01"}))
    code, log = alone.run()
    assert code == 0, log
    three.configure(learning_rate="0.01")
    found = three.run()
    assert [code for code, _ in found] == [0, 0, 0], found
    require_equal(alone, three.jobs[0])

    three.configure(learning_rate="0.01", epochs="4")
    shutil.rmtree(three.jobs[0].paths.base / "kept")
    processes = three.held()
    processes[1].kill()
    os.kill(ranks_of(processes[0])[0], signal.SIGUSR1)  # go on
    found = three.ended(processes)
    assert [code for code, _ in found] == [2, -signal.SIGKILL, 2], found
    for host in (0, 2):
        assert three.failure(host).startswith("AlgorithmError: The host 10.77.0.2 has ended"), three.failure(host)


@pytest.mark.hosts
def test_three_hosts_train_as_one_process_though_one_starts_late(three: Hosts, alone: Any) -> None:
    """With the fixed ports; the float32 parameters differ only by the order of sums. Those that wait say nothing for
    longer than a host may be silent in training.
    """
    processes = [job.start() for job in three.jobs[:2]]
    assert processes[0].stdout
    assert next(line for line in processes[0].stdout if "2 of 3 hosts are here" in line)
    time.sleep(SILENCE_SECONDS + 5)
    found = three.ended([*processes, three.jobs[2].start()])
    assert [code for code, _ in found] == [0, 0, 0], found
    require_equal(alone, three.jobs[0])


def lose_by_kill(processes: list[subprocess.Popen[str]], _: net_hosts.Network) -> None:
    processes[1].kill()


def lose_by_stop(processes: list[subprocess.Popen[str]], _: net_hosts.Network) -> None:
    for pid in (processes[1].pid, *ranks_of(processes[1])):
        os.kill(pid, signal.SIGSTOP)


def lose_a_rank_by_stop(processes: list[subprocess.Popen[str]], _: net_hosts.Network) -> None:
    os.kill(ranks_of(processes[1])[0], signal.SIGSTOP)


def lose_by_cut(_: list[subprocess.Popen[str]], in_network: net_hosts.Network) -> None:
    in_network.cut(1)


@pytest.mark.hosts
@pytest.mark.parametrize(
    ("lose", "message"),
    [
        (lose_by_kill, "The host 10.77.0.2 has ended, or its connection is lost"),
        (lose_by_stop, "The host 10.77.0.2 has not been heard from for 45 s"),
        (lose_a_rank_by_stop, "Rank 1 of 3 (on 10.77.0.2), the process "),
        (lose_by_cut, "The host 10.77.0.2 has not been heard from for 45 s"),
    ],
)
def test_a_lost_host_ends_all_and_is_named_and_the_training_resumes(
    three: Hosts, in_network: net_hosts.Network, alone: Any, lose: Callable[..., None], message: str
) -> None:
    processes = three.held()
    began = time.monotonic()
    lose(processes, in_network)
    others = three.ended([processes[0], processes[2]])
    assert time.monotonic() - began < WITHIN
    assert [code for code, _ in others] == [2, 2], others
    for host in (0, 2):
        assert three.failure(host).startswith(f"AlgorithmError: {message}"), three.failure(host)
    if lose is lose_by_stop:
        processes[1].kill()
    ((code, _),) = three.ended([processes[1]])
    assert code != 0
    if lose is lose_by_cut:
        assert three.failure(1).startswith("AlgorithmError: The host 10.77.0.1 has not been heard from for 45 s")
        net_hosts.ip("-n", in_network.prefix(0)[-1].replace("-0", "-switch"), "link", "set", "v1", "up")
    for job in three.jobs:
        shutil.rmtree(job.paths.model, ignore_errors=True)
    found = three.run()
    assert [code for code, _ in found] == [0, 0, 0], found
    assert "Training resumes from" in found[0][1]
    require_equal(alone, three.jobs[0])
