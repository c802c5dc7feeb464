"""The group of torch.distributed: this process is one rank, and a process of its own another."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch_ranks
from torch import distributed
from torch_ranks import OWN, Case, whole_batch

from semseg.engines.group import Group, Membership
from semseg.engines.torch.engine import TorchEngine
from semseg.engines.torch.group import TorchGroup, _key, _note
from semseg.errors import GroupError

OTHER = """
import sys
import numpy as np
from torch_ranks import membership
from semseg.engines.torch.engine import TorchEngine

engine = TorchEngine()
device = engine.cpu()
print("ready", flush=True)
group = engine.join(membership(1, 2, int(sys.argv[1]), None), device)
print("joined", flush=True)
"""
REST = {
    "counts": """
print(group.sum(np.array([1 << 62, -1, 3])), group.sum(np.array([[0.1]])), group.any(True), group.any(False))
group.barrier()
group.leave()
sys.stdin.read()
""",
    "waits": "sys.stdin.read()",
    "comes late": """
group._store.wait(["waits/0"])
print(group.sum(np.array([7])), group.sum(np.array([9])))
""",
    "waits in a sum": """
from semseg.engines.torch import group as module

module.NOTED_SECONDS = 0.1
group.barrier()
""",
    "trains": """
import os, signal
from torch_ranks import OWN, Case, learner_of, whole_batch

learner = learner_of(Case(OWN, (1, 1)), group)
learner.train_step(whole_batch(1, 0), 0.1, 0)
os.kill(os.getpid(), signal.SIGKILL)
""",
}
CPU = TorchEngine().cpu()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with torch_ranks.listening() as listener:
        yield listener


@contextmanager
def joined(
    listener: socket.socket, rest: str, seconds: float = torch_ranks.SECONDS
) -> Iterator[tuple[Group, subprocess.Popen[str]]]:
    """This process as rank 0 of two, and the process of the other, which has joined and goes on with the `rest`."""
    port = listener.getsockname()[1]
    with torch_ranks.python("-c", OTHER + REST[rest], port) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        group = TorchEngine().join(torch_ranks.membership(0, 2, port, listener.fileno(), seconds), CPU)
        try:
            assert process.stdout.readline() == "joined\n"
            yield group, process
        finally:
            group.leave()


def test_sums_are_exact_and_flags_are_of_any_rank_until_one_leaves(listener: socket.socket) -> None:
    with joined(listener, "counts") as (group, process):
        assert (group.rank, group.size) == (0, 2)
        counts = group.sum(np.array([1, -2, 1 << 53]))
        values = group.sum(np.array([[0.2]]))
        assert counts.tolist() == [(1 << 62) + 1, -3, (1 << 53) + 3]
        assert values.tolist() == [[0.1 + 0.2]]
        assert [counts.dtype, values.dtype] == [np.dtype(np.int64), np.dtype(np.float64)]
        assert (group.any(False), group.any(False)) == (True, False)
        group.barrier()
        assert process.stdout
        assert process.stdout.readline() == f"{counts} {values} True False\n"
        with pytest.raises(GroupError, match="lost the connection"):
            group.barrier()


def test_a_rank_that_is_lost_before_all_have_come_prints_no_frames_of_c(listener: socket.socket) -> None:
    """PyTorch would, by its own log: the error says it all. What was rank 0's store ends here."""
    port = listener.getsockname()[1]
    own = os.dup(listener.fileno())  # which the store closes
    store = distributed.TCPStore("127.0.0.1", port, 3, is_master=True, wait_for_workers=False, master_listen_fd=own)
    waiting = "import os\nos.dup2(1, 2)\n" + OTHER.replace("membership(1, 2,", "membership(1, 3,")
    with torch_ranks.python("-c", waiting, port) as process:
        store.wait([_key(1)])
        del store
        listener.close()
        log, _ = process.communicate(timeout=torch_ranks.SECONDS)
    assert "GroupError: " in log
    assert "frame #" not in log


def require_said(processes: list[subprocess.Popen[str]], line: str) -> None:
    """Raises AssertionError unless this is the next line of each."""
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == line


def test_a_rank_that_does_not_come_to_a_sum_is_named_and_those_that_wait_for_it_are_not(
    listener: socket.socket,
) -> None:
    """Of four, one waits with this one, one is stopped, and one hangs, which no process that watches it can see."""
    port = listener.getsockname()[1]
    with ExitStack() as opened:
        others = [
            opened.enter_context(torch_ranks.python("-c", OTHER.replace("(1, 2,", f"({rank}, 4,") + REST[rest], port))
            for rank, rest in enumerate(("waits in a sum", "waits", "waits"), 1)
        ]
        require_said(others, "ready\n")
        group = TorchEngine().join(torch_ranks.membership(0, 4, port, listener.fileno()), CPU)
        assert isinstance(group, TorchGroup)
        opened.callback(group.leave)
        require_said(others, "joined\n")
        group._seconds = 0.5
        others[1].send_signal(signal.SIGSTOP)
        group._store.wait([_note(1)])
        with pytest.raises(GroupError) as caught:
            group.barrier()
    assert str(caught.value) == (
        "Of the 4 ranks of the training, these have not come within 0.5 seconds: 2, 3. See the logs of their hosts: "
        "they hang."
    )


def test_a_sum_that_takes_longer_than_ranks_wait_before_they_note_it_is_right(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semseg.engines.torch.group.NOTED_SECONDS", 0.1)
    with joined(listener, "comes late") as (group, _):
        assert [group.sum(np.array([1])).tolist() for _ in range(2)] == [[8], [10]]


def test_a_rank_that_is_killed_between_steps_ends_the_step_of_the_others(listener: socket.socket) -> None:
    with joined(listener, "trains") as (group, process):
        learner = torch_ranks.learner_of(Case(OWN, (1, 1)), group)
        learner.train_step(whole_batch(1, 0), 0.1, 0)
        assert process.wait(60) == -signal.SIGKILL
        with pytest.raises(GroupError, match="lost the connection"):
            learner.train_step(whole_batch(1, 1), 0.1, 1)


def test_ranks_that_do_not_come_are_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(GroupError) as caught:
        TorchEngine().join(torch_ranks.membership(0, 3, port, listener.fileno(), seconds=0.1), CPU)
    assert str(caught.value) == (
        "Of the 3 ranks of the training, these have not come within 0.1 seconds: 1, 2. See the logs of their hosts, "
        f"and whether these reach 127.0.0.1, port {port}."
    )


def test_a_first_rank_that_cannot_be_reached_is_an_error(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(GroupError, match=rf"ranks of the training cannot be connected: .*127.0.0.1, {port}\)\. Check"):
        TorchEngine().join(torch_ranks.membership(1, 2, port, None, seconds=1), CPU)


def test_an_interface_that_the_machine_lacks_is_an_error_that_names_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    place = Membership(0, 1, "127.0.0.1", port, listener.fileno(), "none7", 5)
    with pytest.raises(GroupError) as caught:
        TorchEngine().join(place, CPU)
    assert re.fullmatch(
        r"The ranks of the training cannot be connected: .*none7\. Check that this host has the network interface "
        rf"none7 and reaches 127\.0\.0\.1, port {port}, and see the logs of the other ranks\.",
        str(caught.value),
    )


def test_leaving_does_not_wait_for_ranks_that_stay(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL waits for them: the error for which a rank leaves would not be reported."""
    port = listener.getsockname()[1]
    group = TorchEngine().join(torch_ranks.membership(0, 1, port, listener.fileno()), CPU)
    others_leave, destroyed, destroy = threading.Event(), threading.Event(), distributed.destroy_process_group

    def wait_and_destroy() -> None:
        others_leave.wait(torch_ranks.SECONDS)
        destroy()
        destroyed.set()

    monkeypatch.setattr(distributed, "destroy_process_group", wait_and_destroy)
    monkeypatch.setattr("semseg.engines.torch.group.LEAVING_SECONDS", 0.1)
    leaving = threading.Thread(target=group.leave, daemon=True)
    leaving.start()
    leaving.join(torch_ranks.SECONDS / 2)
    has_left = not leaving.is_alive()
    others_leave.set()
    assert destroyed.wait(torch_ranks.SECONDS)
    assert has_left
