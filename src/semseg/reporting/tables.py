"""Tables of text, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from semseg.reporting.width import padded, width


def table(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Returns rows of cells as lines of aligned columns. alignment: `<` or `>` for each column."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    columns = list(zip(widths, alignment, strict=True))
    return "\n".join(
        "  ".join(padded(cell, *column) for cell, column in zip(row, columns, strict=True)).rstrip() for row in rows
    )
