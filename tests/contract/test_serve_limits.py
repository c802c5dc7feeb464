"""What a `serve` process makes of a machine that has too little for it, and of what others left there."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import small_server
from serve_process import (
    STARTS_WITHIN,
    encode,
    serving,
    shared_folder,
    start,
    statuses_until_ready,
    wait_until,
    workers,
)

from semseg.serving.environment import FOREIGN
from semseg.types import UInt8

PROGRAM = small_server.__file__
NO_THREAD, NO_FILE = "no thread can be started", "Too many open files"
TWO = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}


@contextmanager
def limit(process: int, kind: int, most: int) -> Iterator[None]:
    """A limit of a process that runs, for the block."""
    before = resource.prlimit(process, kind)
    resource.prlimit(process, kind, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, kind, before)


def open_files(process: int) -> int:
    """How many a process has; none when it has ended."""
    try:
        return len(list(Path(f"/proc/{process}/fd").iterdir()))
    except FileNotFoundError:
        return 0


def address_space(process: int) -> int:
    """Bytes that it has mapped."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()


def kinds_of_shortage(worker: int) -> dict[str, tuple[int, int]]:
    """For each a limit, by kind, under which the worker gets no other file, or no stack for another thread.

    A stack has 8 MiB. Less than that is left, for the answer under way.
    """
    return {
        NO_FILE: (resource.RLIMIT_NOFILE, open_files(worker)),
        NO_THREAD: (resource.RLIMIT_AS, address_space(worker) + (6 << 20)),
    }


@pytest.mark.parametrize("lacking", [NO_FILE, NO_THREAD])
def test_without_threads_or_files_a_worker_answers_those_it_has_and_recovers(
    small_base: Path, tmp_path: Path, image: UInt8, lacking: str
) -> None:
    body = encode(image)
    with serving(small_base, tmp_path, PROGRAM) as server, ExitStack() as clients:
        (worker,) = workers(server)
        under_way = clients.enter_context(server.begin_post(body))
        with limit(worker, *kinds_of_shortage(worker)[lacking]):
            for _ in range(10):
                clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            wait_until(lambda: lacking in (tmp_path / "stderr").read_text())
            under_way.sendall(body)
            assert under_way.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        assert server.ping() == 200
        assert workers(server) == [worker]
    assert (tmp_path / "stderr").read_text().count("New clients wait until others leave") == 1


def test_a_worker_that_cannot_be_replaced_for_now_is_replaced_later(small_base: Path, tmp_path: Path) -> None:
    """At first the master has no file for a worker, then that no memory for the model: the server does not end."""
    log = tmp_path / "stderr"
    with serving(small_base, tmp_path, PROGRAM) as server:
        master, (worker,) = server.process.pid, workers(server)
        with limit(master, resource.RLIMIT_NOFILE, 3):
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: "No worker can be started: [Errno 24]" in log.read_text())
        with limit(master, resource.RLIMIT_AS, address_space(master) + (16 << 20)):
            wait_until(lambda: "exited with code 1" in log.read_text())
        statuses_until_ready(server)
        assert worker not in workers(server)


def limited(files: int) -> tuple[str, str]:
    """A program that serves where no process may open more files."""
    setting = f"resource.setrlimit(resource.RLIMIT_NOFILE, (min({files}, 50), {files}))"
    serve = f"os.execv(sys.executable, [sys.executable, {PROGRAM!r}])"
    return "-c", f"import os, resource, sys; {setting}; {serve}"


def test_connections_are_fewer_where_files_are(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    with serving(small_base, tmp_path, *limited(100)) as server, ExitStack() as clients:
        for number in range(60):  # more than can be had at a time, of which most have an answer and stay
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            if number % 4:
                client.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        assert server.invoke(encode(image), Accept="image/png")[0] == 200
    says = "SEMSEG_MAX_CONNECTIONS is 18 instead of 256, because of the limit of open files (ulimit -n).\n"
    assert says in (tmp_path / "stdout").read_text()
    assert NO_FILE not in (tmp_path / "stderr").read_text()


def test_a_limit_too_low_for_any_server_is_the_user_s_error(small_base: Path, tmp_path: Path) -> None:
    assert start(small_base, tmp_path, *limited(70)).process.wait(timeout=STARTS_WITHIN) == 1
    assert (tmp_path / "stderr").read_text().startswith("The limit of open files (ulimit -n) leaves room for 3 clients")


def test_variables_of_other_servers_change_nothing(small_base: Path, tmp_path: Path) -> None:
    with serving(small_base, tmp_path, PROGRAM, **dict.fromkeys(FOREIGN, "/nonsense")) as server:
        assert server.ask("GET", "/info")[0] == 200
        assert server.ask("GET", "/metrics")[0] == 200
        server.process.send_signal(
            signal.SIGUSR2
        )  # with which gunicorn would hand over to a successor by such variables
        wait_until(lambda: "SIGUSR2 is ignored." in (tmp_path / "stderr").read_text())


def test_what_a_killed_server_shared_is_removed_by_the_next(small_base: Path, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    server = start(small_base, tmp_path, PROGRAM, **TWO)
    try:
        wait_until(lambda: len(workers(server)) == 2)
        orphans = workers(server)
        folder = shared_folder(server)
    finally:
        server.process.kill()
        server.process.wait(60)
    wait_until(lambda: not any(map(open_files, orphans)))  # they have noticed, and ended
    assert folder.exists()
    after = start(small_base, tmp_path / "next", PROGRAM, **TWO)
    try:
        wait_until(lambda: not folder.exists() and len(workers(after)) == 2)
        after.process.terminate()
        assert after.process.wait(timeout=60) == 0
    finally:
        after.process.kill()
        after.process.wait(60)


SMALL = (
    "import os, sys; "
    "mount = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$@\"'; "
    f"serve = ['sh', '-c', mount, 'sh', sys.executable, {PROGRAM!r}]; "
    "os.execvp('unshare', ['unshare', '--mount', '--map-root-user', *serve])"
)


def may_mount() -> bool:
    """Whether this user may have a /dev/shm of its own."""
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs namespaces of its own, for another /dev/shm")
def test_a_full_dev_shm_is_not_used(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    with serving(small_base, tmp_path, "-c", SMALL, **TWO) as server:
        wait_until(lambda: (tmp_path / "stdout").read_text().count("...model loaded.") == 2)
        for _ in range(4):
            assert server.invoke(encode(image), Accept="image/png")[0] == 200
        assert b"semseg_megapixels_total" in server.ask("GET", "/metrics")[2]
        assert shared_folder(server).parent == Path("/tmp")
    assert "SIGBUS" not in (tmp_path / "stderr").read_text()
