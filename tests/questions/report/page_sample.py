"""A page with everything on it, with texts that would break out of HTML if they were not escaped."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from e4profile.show.tables import Column, Table

EVIL = "<script>document.title='broken'</script>\"'&amp;</td>"

COLUMNS = (
    Column("row", "row", "text", priority=90),
    Column("kernel", "kernel", "integer"),
    Column("macs", "MACs", "integer"),
    Column("ratio", "ratio", "ratio"),
    Column("deviation", "deviation %", "percent"),
    Column("verdict", "verdict", "verdict", priority=100),
    Column("evidence", "evidence", "text"),
)


def table(rows: int = 12) -> Table:
    """Row n has 10**n MACs, in an order that is neither rising nor falling, and row 3 has none."""
    order = [(7 * n) % rows for n in range(rows)]
    return Table(
        f"Settings {EVIL}",
        COLUMNS,
        tuple(
            {
                "row": f"row {n} {EVIL if n == 1 else ''}",
                "kernel": (3, 5, 7)[n % 3],
                "macs": None if n == 3 else 10**n,
                "ratio": Fraction(n, 3),
                "deviation": Decimal("-1.5") * n,
                "verdict": "unresolved" if n == 2 else "reproduced",
                "evidence": f'because, of "{n}"\nand {EVIL}' if n % 2 else None,
            }
            for n in order
        ),
        (f"a note {EVIL}",),
        f"a convention {EVIL}",
    )


def figure(folder: Path, name: str = "a-figure") -> list[Path]:
    """A figure in the house's style: SVG, PNG and CSV."""
    from e4profile.show.style import Plot, new_figure, paper_style, save

    with paper_style():
        drawing = new_figure(1.0)
        drawing.subplots().plot([1, 2, 3], [1, 4, 9])
        return save(Plot(name, drawing, [{"x": 1, "y": 1}, {"x": 2, "y": 4}]), folder)
