"""One vocabulary of columns: what a key of the rows is called at the head of a table, its kind, how much it matters.

A table names keys by its rows. A key that is not listed here is its own header, and its unit or its values say what
kind it is: ``median_s`` is the column *median*, of seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from e4profile.show.tables import Column, Kind, Table

_LISTED = (
    Column("agrees", "agrees", "boolean", priority=100),
    Column("holds", "holds", "boolean", priority=100),
    Column("verdict", "verdict", "verdict", priority=100),
    Column("place", "", "text", priority=100),
    Column("model", "model", "text", priority=95),
    Column("network", "network", "text", priority=95),
    Column("path", "path", "text", priority=90),
    Column("layer", "layer", "text", priority=40),
    Column("input", "input", "text", priority=50),
    Column("group", "group", "text", priority=60),
    Column("width", "width", "integer", priority=60),
    Column("term", "term", "text", priority=90),
    Column("batch_size", "batch", "integer", priority=95),
    Column("reason", "reason", "text"),
    # counts
    Column("params", "params", "integer", priority=80),
    Column("macs", "MACs", "integer", priority=70),
    Column("closed_form", "closed form", "integer", priority=85),
    Column("dispatch", "dispatch", "integer", priority=70),
    Column("forward_macs", "forward MACs", "integer", priority=30),
    Column("backward_macs", "backward MACs", "integer", priority=30),
    Column("training_macs", "training MACs", "integer", priority=90),
    Column("inference_macs", "inference MACs", "integer", priority=95),
    Column("step_macs", "training step MACs", "integer", priority=95),
    # bytes
    Column("bytes", "bytes", "bytes", priority=95),
    Column("step_bytes", "training step", "bytes", "step", 90),
    Column("parameter_bytes", "parameters", "bytes", "params", 60),
    Column("gradient_bytes", "gradients", "bytes", "grads", 40),
    Column("optimiser_bytes", "optimiser state", "bytes", "optim.", 40),
    Column("saved_formula_bytes", "saved, closed form", "bytes", "saved form.", 80),
    Column("saved_measured_bytes", "saved, measured", "bytes", "saved meas.", 70),
    Column("saved_constant_bytes", "saved whatever the batch", "bytes", "constant", 55),
    Column("saved_per_image_bytes", "saved per image", "bytes", "per image", 55),
    Column("peak_bytes", "peak of forward and backward", "bytes", "peak", 85),
    Column("forward_bytes", "forward pass", "bytes", "forward", 90),
    Column("forward_peak_bytes", "peak of a forward pass", "bytes", "forward peak", 85),
    Column("kept_bytes", "kept between passes", "bytes", "kept", 30),
    Column("input_bytes", "input", "bytes", priority=10),
    Column("buffer_bytes", "buffers", "bytes", priority=10),
    Column("state_bytes", "state dict, training", "bytes", "state", 85),
    Column("state_formula_bytes", "state dict, closed form", "bytes", "state form.", 60),
    Column("eval_state_bytes", "state dict, evaluation", "bytes", "eval. state", 80),
    Column("beside_bytes", "beside the state dict", "bytes", "beside", 80),
    Column("file_bytes", "file", "bytes", priority=60),
    Column("grows_with_batch", "grows with batch", "boolean", "grows", 80),
    # times and ratios
    Column("device", "device", "text", priority=30),
    Column("dtype", "dtype", "text", priority=30),
    Column("threads", "threads", "integer", priority=20),
    Column("median_s", "median", "seconds", priority=90),
    Column("construct_s", "construction", "seconds", "constr.", 70),
    Column("first_forward_s", "first forward", "seconds", "first", 70),
    Column("noisy", "noisy", "boolean", priority=70, doubt=True),
    Column("deviation_percent", "deviation %", "percent", "dev. %", 60),
    Column("ratio", "ratio", "ratio", priority=85),
    Column("low", "from", "ratio", priority=50),
    Column("high", "to", "ratio", priority=50),
)

COLUMNS: Mapping[str, Column] = {column.key: column for column in _LISTED}
"""Every key that is more than its own name."""

_UNITS: dict[str, Kind] = {"_s": "seconds", "_bytes": "bytes", "_percent": "percent"}


def table_of_rows(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: Iterable[str] = (),
    convention: str | None = None,
    *,
    keys: Iterable[str] = (),
    columns: Iterable[Column] = (),
    priorities: Mapping[str, int] | None = None,
) -> Table:
    """A table with the rows' keys as columns, in the rows' order.

    Args:
        title: of the table.
        rows: each with some of the keys; what a row lacks is None.
        notes: what a reader must know.
        convention: what counts as what.
        keys: the columns, where they are not those of the rows.
        columns: of keys that mean something else here than in the vocabulary.
        priorities: of keys that matter more or less here than there.
    """
    here = {**COLUMNS, **{column.key: column for column in columns}}
    shown = list(keys) or list(dict.fromkeys(key for row in rows for key in row))
    found = [here.get(key) or named_column(key, [row.get(key) for row in rows]) for key in shown]
    found = [replace(one, priority=(priorities or {}).get(one.key, one.priority)) for one in found]
    values = tuple({key: row.get(key) for key in shown} for row in rows)
    return Table(title, tuple(found), values, tuple(notes), convention)


def named_column(key: str, values: Sequence[Any]) -> Column:
    """A column by its key and its values: the unit behind the key is its kind, not a part of its name."""
    given = [value for value in values if value is not None]
    unit = next((unit for unit in _UNITS if key.endswith(unit)), "")
    header = key.removesuffix(unit).replace("_", " ")
    if given and all(isinstance(value, bool) for value in given):
        return Column(key, header, "boolean", priority=50)
    if not given or any(isinstance(value, bool | str) for value in given):
        return Column(key, header, "text", priority=50)
    whole = all(isinstance(value, int) for value in given)
    if unit and (whole or unit != "_bytes"):
        return Column(key, header, _UNITS[unit], priority=50)
    return Column(key, header, "integer" if whole else "ratio", priority=50)
