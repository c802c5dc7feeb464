from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hunt import LONG, Hunt

COUNTS = pytest.StashKey[dict[str, int]]()


@pytest.fixture(params=[1, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def hunt(tmp_path: Path, request: pytest.FixtureRequest) -> Hunt:
    """A short hunt, and a long one among the slow tests."""
    (tmp_path / "cases").mkdir()
    return Hunt(tmp_path / "cases", request.config.stash.setdefault(COUNTS, {}), request.param)


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """This process may take 256 MB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Reports the number of cases."""
    if counts := config.stash.get(COUNTS, {}):
        terminalreporter.section("hostile cases")
        for name, count in (*counts.items(), ("in all", sum(counts.values()))):
            terminalreporter.line(f"{count:9,} {name}")
