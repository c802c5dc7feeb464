from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from semseg.machine import (
    free_memory,
    free_threads,
    gpu_files,
    has_bf16,
    is_bf16_faster,
    is_own,
    is_stopped,
    see_only_gpu,
    usable_cores,
    use_cores,
)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "damaged"}, 64),
        ({}, 64),
    ],
)
def test_cores_are_those_of_the_affinity_within_the_cgroups_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    write(tmp_path, files)
    assert usable_cores(tmp_path) == cores


V1_UNLIMITED = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8_192_000),
        ({"memory.max": "max\n", "memory.current": "5000000\n"}, 8_192_000),
        ({"memory.max": "6000000\n", "memory.current": "5000000\n"}, 1_000_000),
        ({"memory.max": "90000000\n", "memory.current": "5000000\n"}, 8_192_000),
        (
            {
                "memory.max": "6000000\n",
                "memory.current": "5000000\n",
                "memory.stat": "anon 9\ninactive_file 2000\nactive_file 100\n",
            },
            1_002_100,
        ),
        ({"memory.max": "6000000\n", "memory.current": "6000500\n"}, 0),
        ({"memory/memory.limit_in_bytes": V1_UNLIMITED, "memory/memory.usage_in_bytes": "5000000\n"}, 8_192_000),
        (
            {
                "memory/memory.limit_in_bytes": "6000000\n",
                "memory/memory.usage_in_bytes": "5000000\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 2000\ntotal_active_file 100\n",
            },
            1_002_100,
        ),
    ],
)
def test_free_memory_is_the_machines_within_the_cgroups_limit(tmp_path: Path, files: dict[str, str], free: int) -> None:
    write(tmp_path, files | {"meminfo": "MemTotal:       16000 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"})
    assert free_memory(tmp_path, tmp_path / "meminfo") == free


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"pids.max": "max\n", "pids.current": "5\n"}, None),
        ({"pids.max": "100\n", "pids.current": "5\n"}, 95),
        ({"pids.max": "100\n", "pids.current": "105\n"}, 0),  # a limit may be set below what there is
        ({"pids.max": "100\n"}, None),
        ({"pids/pids.max": "100\n", "pids/pids.current": "7\n"}, 93),
        ({"pids/pids.max": "max\n", "pids/pids.current": "7\n"}, None),
    ],
)
def test_free_threads_are_those_of_the_cgroup(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    write(tmp_path, files)
    assert free_threads(tmp_path, tmp_path / "proc") == free


@pytest.mark.parametrize(
    ("user", "limit", "free"),
    [(1000, 50, 45), (1000, 200, 80), (1000, 3, 0), (1000, resource.RLIM_INFINITY, 80), (0, 50, 80), (1001, 50, 50)],
)
def test_a_user_may_have_fewer_threads_unless_it_is_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, limit: int, free: int
) -> None:
    write(tmp_path, {"pids.max": "100\n", "pids.current": "20\n"})
    for process, threads in ((7, 3), (15, 2)):
        status = f"Name:\tpython\nUid:\t1000\t0\t0\t0\nThreads:\t{threads}\n"
        (tmp_path / "proc" / str(process)).mkdir(parents=True)
        write(tmp_path / "proc", {f"{process}/status": status, "meminfo": "MemFree: 5 kB\n"})
    (tmp_path / "proc/16").mkdir()  # it has just ended
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    assert free_threads(tmp_path, tmp_path / "proc") == free


def test_the_threads_of_this_user_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = os.getuid()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1_000_000, 1_000_000))
    free = free_threads(tmp_path)
    assert free is None if user == 0 else free is not None and 0 < free < 1_000_000


def test_this_machine_has_memory() -> None:
    assert 0 < free_memory() < 1 << 50


def test_a_folder_is_own_when_no_other_can_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, link, file = tmp_path / "own", tmp_path / "link", tmp_path / "file"
    own.mkdir(mode=0o755)
    link.symlink_to(own)
    file.touch()
    assert is_own(own)
    assert not any(map(is_own, (link, file, tmp_path / "absent")))
    for mode in (0o775, 0o757):
        own.chmod(mode)
        assert not is_own(own)
    own.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: own.stat().st_uid + 1)
    assert not is_own(own)


KEPT = """
import ctypes, sys
from pathlib import Path
from semseg.machine import keep_memory_flat

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def block(size):
    address = libc.malloc(size)
    ctypes.memset(address, 1, size)
    return address

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256

if sys.argv[1] == "flat":
    keep_memory_flat(1 << 20, kept=1 << 20)
libc.free(block(30 << 20))  # on its own, glibc takes from this that blocks of such a size come again
before = resident()
blocks = [block(2 << 20) for _ in range(50)]
pin = block(500_000)
for one in blocks:
    libc.free(one)
print(resident() - before)
"""


@pytest.mark.parametrize(("how", "low", "high"), [("flat", -1, 4), ("glibc's own", 90, 110)])
def test_freed_blocks_go_back_though_one_behind_them_is_in_use(how: str, low: float, high: float) -> None:
    """100 MB in blocks of 2, which glibc on its own would keep."""
    run = subprocess.run([sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True, timeout=60)
    assert low < float(run.stdout) < high


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["nvidia0", "nvidiactl"], ["nvidia0"]),
        (["nvidia12", "nvidia2"], ["nvidia12", "nvidia2"]),
        (["nvidiactl", "nvidia-uvm", "nvidia-caps", "null"], []),
        ([], []),
    ],
)
def test_a_gpu_has_a_device_file(tmp_path: Path, files: list[str], expected: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert [path.name for path in gpu_files(tmp_path)] == expected


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("model name : x\nflags\t\t: fpu avx512f avx512_bf16 amx\n\nflags : fpu\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("Features : fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_bf16_is_for_cpus_that_compute_in_it(tmp_path: Path, cpuinfo: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_bf16(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize(
    ("maker", "flags", "expected"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f avx512_bf16 avx512_fp16", True),
        ("GenuineIntel", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16", False),
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile", True),
        ("AuthenticAMD", "avx2", False),
        ("GenuineIntel", "avx512f avx512_vnni", False),
    ],
)
def test_bf16_is_faster_by_amx_and_but_for_intel_s_cpus_that_should_have_that_by_avx512(
    tmp_path: Path, maker: str, flags: str, expected: bool
) -> None:
    cpu = f"processor : 0\nvendor_id\t: {maker}\nflags\t\t: fpu {{}}\n\n"
    (tmp_path / "cpuinfo").write_text(cpu.format(flags) + cpu.format("avx512_fp16"))
    assert is_bf16_faster(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize("cpuinfo", ["Features : fp asimd bf16\n", "flags\n", ""])
def test_bf16_is_not_faster_on_a_cpu_of_which_nothing_is_known(tmp_path: Path, cpuinfo: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert not is_bf16_faster(tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("given", "count", "used"), [("", 4, "4"), ("2", 4, "2"), ("8", 4, "4"), ("0", 4, "4"), ("2,1", 4, "4")]
)
def test_openmp_may_use_fewer_cores_but_not_more(
    given: str, count: int, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    use_cores(count)
    assert os.environ["OMP_NUM_THREADS"] == used


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("", "1"), ("4, 6,7", "6"), ("GPU-a,GPU-b", "GPU-b")])
def test_one_of_the_visible_gpus_stays_visible(given: str | None, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    see_only_gpu(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_stopped_process_is_recognised() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert not is_stopped(process.pid)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert is_stopped(process.pid)
        finally:
            process.kill()
    assert not is_stopped(process.pid)
