"""The formats for programs, JSON and CSV: exact values, nothing rounded, grouped, shortened or hidden."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from fractions import Fraction

from e4profile.show.columns import Table


def render_json(table: Table) -> str:
    """One array of the row objects, keys in column order, one row per line, ending with a newline.

    Integers are exact at any size. A Fraction or Decimal becomes the nearest double, in shortest form.
    """
    rows = [
        json.dumps({c.key: _number(row[c.key]) for c in table.columns}, ensure_ascii=False, allow_nan=False)
        for row in table.rows
    ]
    body = ",\n".join(f"  {row}" for row in rows)
    return f"[\n{body}\n]\n" if rows else "[]\n"


def render_csv(table: Table) -> str:
    """The keys as header, then the rows: None is empty, booleans are true and false, numbers as in JSON."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow([_field(row[column.key]) for column in table.columns])
    return stream.getvalue()


def _field(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value)


def _number(value: object) -> object:
    return float(value) if isinstance(value, Fraction | Decimal) else value
