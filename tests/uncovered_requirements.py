"""Prints the requirements R1 to R56 that no test names with `@pytest.mark.req`; fails on an unknown name.

They number the statements of the built-in algorithm's documentation, in its order."""

from __future__ import annotations

import re
import sys
from pathlib import Path

REQUIREMENTS = [f"R{number}" for number in range(1, 57)]


def main() -> int:
    """Reads the marks out of the tests' text."""
    covered: set[str] = set()
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for mark in re.findall(r"mark\.req\(([^)]*)\)", path.read_text()):
            covered |= set(re.findall(r'"([^"]*)"', mark))
    uncovered = [name for name in REQUIREMENTS if name not in covered]
    print(f"Requirements without a test ({len(uncovered)} of {len(REQUIREMENTS)}): {', '.join(uncovered) or 'none'}")
    unknown = sorted(covered - set(REQUIREMENTS))
    if unknown:
        print(f"No such requirement: {', '.join(unknown)}")
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())
