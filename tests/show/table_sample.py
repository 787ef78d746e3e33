"""A small sweep-like table: a setting that disagrees, a missing count, columns that are constant."""

from __future__ import annotations

from e4profile.show.tables import Column, Table

COLUMNS = (
    Column("model", "model", "text", priority=90),
    Column("group", "group", "text", priority=60),
    Column("width", "width", "integer", priority=60),
    Column("kernel", "kernel", "integer", "k", 85),
    Column("reduction", "reduction", "integer", "r", 85),
    Column("slices", "slices", "integer", "s", 85),
    Column("params_formula", "params formula", "integer", "params form.", 70),
    Column("params_measured", "params measured", "integer", "params meas.", 40),
    Column("macs_formula", "MACs formula", "integer", "MACs form.", 70),
    Column("macs_measured", "MACs measured", "integer", "MACs meas.", 40),
    Column("macs_printed_form", "MACs printed form", "integer", "MACs printed", 30),
    Column("fvcore", "fvcore", "integer", priority=20),
    Column("thop", "thop", "integer", priority=20),
    Column("agrees", "agrees", "boolean", priority=100),
    Column("params_ratio", "params ratio", "ratio", priority=50),
    Column("macs_ratio", "MACs ratio", "ratio", priority=50),
)

_VALUES: tuple[tuple[object, ...], ...] = (
    (
        *("gcnn", "p4", 16, 3, None, None, 57_626, 57_626, 41_680_000, 41_680_000),
        *(41_680_000, 41_680_000, 41_679_990, True, 1.0, 1.0),
    ),
    (
        *("e4net", "p4", 16, 5, 1, 2, 18_694, 18_694, 17_640_000, 17_640_000),
        *(17_630_000, 15_523_200, 15_000_001, True, 18_694 / 57_626, 0.4232245681),
    ),
    (
        *("e4net", "p4", 16, 5, 2, 2, 12_838, 12_838, 12_813_696, 12_813_697),
        *(12_800_000, None, 10_000_000, False, 12_838 / 57_626, 0.30743),
    ),
)


def sweep_table() -> Table:
    """The table, in full."""
    return Table(
        title="E4 settings against the group convolution, p4",
        columns=COLUMNS,
        rows=tuple({c.key: v for c, v in zip(COLUMNS, values, strict=True)} for values in _VALUES),
        notes=("1 setting skipped: slices (=3) does not divide width (=16)",),
        convention="macs (convolution + linear + aggregation)",
    )
