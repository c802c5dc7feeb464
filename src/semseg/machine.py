"""What this process may use of the machine: cores, memory, threads, within its container's limits (cgroup v1 or v2).

Also which GPUs there are, whether the CPU computes in bfloat16, and whether a folder is safe from other users.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import resource
import signal
import socket
import stat
import struct
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_MEMINFO = _PROC / "meminfo"

_PR_SET_PDEATHSIG = 1
"""Linux's number for prctl (prctl.h)."""

_SIOCGIFADDR = 0x8915
"""Linux's number for the address of an interface (sockios.h)."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""glibc's numbers for mallopt (malloc.h)."""


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores this process may use, at least 1: its affinity and the cgroup's quota, rounded up."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def free_memory(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int:
    """Return the number of bytes that can still be allocated: the least of what the machine and the cgroup leave.

    Files that the kernel caches count as free: it drops them when it has to.
    """
    free = _table(meminfo)["MemAvailable"] << 10
    v2 = _left_memory(cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat")
    limit, usage, stat = (cgroup / "memory" / f"memory.{name}" for name in ("limit_in_bytes", "usage_in_bytes", "stat"))
    v1 = _left_memory(limit, usage, stat, prefix="total_")
    return max(0, min(left for left in (free, v2, v1) if left is not None))


def free_threads(cgroup: Path = _CGROUP, proc: Path = _PROC) -> int | None:
    """Return the number of threads that cgroup and user may still start, None without a limit. A process counts as one.

    The limit of a user (ulimit -u) does not apply to root. Only the user's threads in this container are counted.
    """
    v2 = _left(cgroup / "pids.max", cgroup / "pids.current")
    v1 = _left(cgroup / "pids" / "pids.max", cgroup / "pids" / "pids.current")
    return min((max(0, left) for left in (v2, v1, _left_to_user(proc)) if left is not None), default=None)


def gpu_files(dev: Path = Path("/dev")) -> list[Path]:
    """Return the device files of NVIDIA GPUs, such as /dev/nvidia0. Without one, no library finds a GPU."""
    return sorted(dev.glob("nvidia[0-9]*"))


def see_only_gpu(index: int) -> None:
    """Let this process see one GPU alone, of those that it saw: that of this number, from 0. Before CUDA is loaded."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index].strip() if visible else str(index)


def use_cores(count: int) -> None:
    """Let libraries with OpenMP use at most `count` cores. Before they are loaded."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    os.environ["OMP_NUM_THREADS"] = str(min(count, int(given)) if given.isdecimal() and int(given) else count)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; parent: the number of its process.

    Raises ProcessLookupError if that has ended already.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(f"the process {parent} has ended")


def is_stopped(process: int, proc: Path = _PROC) -> bool:
    """Return whether a process is stopped, by SIGSTOP for example."""
    fields = _read(proc / str(process) / "stat").rpartition(")")[2].split()  # the name may hold anything
    return bool(fields) and fields[0] in ("T", "t")


def address_of(interface: str) -> str | None:
    """Return the numeric IPv4 address of a network interface; None if it has none, or does not exist."""
    request = struct.pack("256s", interface.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            return socket.inet_ntoa(fcntl.ioctl(asked, _SIOCGIFADDR, request)[20:24])
    except OSError:
        return None


def has_bf16(cpuinfo: Path = _PROC / "cpuinfo") -> bool:
    """Return whether the CPU computes in bfloat16: AVX512-BF16 or AMX. Libraries emulate it elsewhere, slowly."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_flags(cpuinfo))


def is_bf16_faster(cpuinfo: Path = _PROC / "cpuinfo") -> bool:
    """Return whether the CPU computes in bfloat16 faster than in float32.

    Intel's CPUs with AVX512-FP16 (Sapphire Rapids and newer) do so only by AMX, which hypervisors may hide: with
    AVX512-BF16 alone, bfloat16 took one of them 1.4 times (training) to 1.9 times (serving) as long as float32.
    """
    flags = _cpu_flags(cpuinfo)
    return "amx_bf16" in flags or ("avx512_bf16" in flags and not {"GenuineIntel", "avx512_fp16"} <= flags)


def _cpu_flags(cpuinfo: Path) -> set[str]:
    """The maker and the flags of the first CPU; of ARM's, none."""
    lines = (line.partition(":") for line in reversed(_read(cpuinfo).splitlines()))
    fields = {name.strip(): value for name, _, value in lines}
    return {*fields.get("vendor_id", "").split(), *fields.get("flags", "").split()}


def _left_to_user(proc: Path) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.getuid() == 0 or limit == resource.RLIM_INFINITY:
        return None
    processes = (_table(status) for status in proc.glob("[0-9]*/status"))
    return limit - sum(process.get("Threads", 0) for process in processes if process.get("Uid") == os.getuid())


def _left_memory(limit: Path, usage: Path, stat: Path, prefix: str = "") -> int | None:
    """Bytes left below a cgroup's limit, None without one; cgroup v1 writes a huge number for no limit."""
    left, table = _left(limit, usage), _table(stat)
    if left is None:
        return None
    return left + sum(table.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))


def _left(limit: Path, usage: Path) -> int | None:
    """A cgroup's limit minus its usage, None without a limit: no file, or "max" in it."""
    allowed, used = _words(limit), _words(usage)
    if not (allowed and used and allowed[0].isdecimal()):
        return None
    return int(allowed[0]) - int(used[0])


def _quota_v2(cgroup: Path) -> float | None:
    """Cores of cgroup v2's `cpu.max`, which holds a quota (or "max") and a period in microseconds."""
    fields = _words(cgroup / "cpu.max")
    return None if len(fields) != 2 or fields[0] == "max" else int(fields[0]) / int(fields[1])


def _quota_v1(cgroup: Path) -> float | None:
    """Cores of cgroup v1's `cpu.cfs_quota_us` (-1: no limit) and `cpu.cfs_period_us`."""
    fields = _words(cgroup / "cpu" / "cpu.cfs_quota_us") + _words(cgroup / "cpu" / "cpu.cfs_period_us")
    return None if len(fields) != 2 or int(fields[0]) <= 0 else int(fields[0]) / int(fields[1])


def _table(path: Path) -> dict[str, int]:
    """Parse lines of a name and a number, as in /proc/meminfo, memory.stat and a process's status."""
    words = [line.replace(":", "").split() for line in _read(path).splitlines()]
    return {fields[0]: int(fields[1]) for fields in words if len(fields) >= 2 and fields[1].isdecimal()}


def _words(path: Path) -> list[str]:
    return _read(path).split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def is_own(folder: Path) -> bool:
    """Return whether this is a folder, not a link to one, that belongs to this user and that no other can write."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def keep_memory_flat(large: int, kept: int, arenas: int | None = None) -> None:
    """Make glibc return freed memory to the system; by default it keeps ever larger blocks, in one arena per thread.

    This sets the whole process. Blocks of `large` bytes and more are returned at once, smaller ones when `kept` bytes
    are free at the end of an arena. Threads share `arenas` arenas; None leaves the number to glibc, so that they need
    not wait for each other. Does nothing with C libraries other than glibc.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, large)
        mallopt(_M_TRIM_THRESHOLD, kept)
        if arenas:
            mallopt(_M_ARENA_MAX, arenas)
