"""A network's counts as one JSON object: what was counted, how, the totals by witness, and the layers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA_VERSION = 1
"""1: ``schema, model, arguments, input, convention, agrees, totals, at_least, closed_form_coverage, layers,
notes``; the earliest documents lack ``at_least`` and ``closed_form_coverage``. ``in_irrep_basis`` is
there where group convolutions have another cost so, ``name`` where the network was given one.
"""

_NOT_ADDED = ("agrees", "path", "layer", "output", "layers")


def totals(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> dict[str, int | None]:
    """Parameters and every witness's operations, added up over the rows of ``count_rows``.

    None for a witness that has no figure for some row. A closed form is not missing in a row where nothing is to be
    counted: no parameters, and nothing that runs. Without any row every one of ``columns`` is 0.
    """
    found: dict[str, int | None] = {}
    for key in rows[0] if rows else columns:
        if key not in _NOT_ADDED:
            values = [row[key] for row in rows if key != "closed_form" or row[key] is not None or not _idle(row)]
            found[key] = None if None in values else sum(values)
    return found


def agreement(rows: Sequence[Mapping[str, Any]], *, at_least: bool = False) -> bool | None:
    """Whether closed form and dispatch agree in every row.

    None where a row that counts has no closed form, or where operators ran that are unknown (``at_least``).
    """
    found = [row["agrees"] for row in rows if "agrees" in row and (row["agrees"] is not None or not _idle(row))]
    if False in found:
        return False
    return None if None in found or not found or at_least else True


def _idle(row: Mapping[str, Any]) -> bool:
    return row["params"] == 0 and row.get("dispatch") == 0


def count_document(
    model: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    arguments: Mapping[str, Any],
    inputs: str,
    convention: str,
    notes: Sequence[str] = (),
    columns: Sequence[str] = (),
    at_least: bool = False,
    coverage: str = "whole",
    in_irrep_basis: Mapping[str, int] | None = None,
    name: str = "",
) -> dict[str, Any]:
    """The object that ``e4profile count --format json`` writes.

    Args:
        model: as it was named.
        rows: of ``count_rows``.
        arguments: that it was built with.
        inputs: of one call, as text: shapes with the batch.
        convention: under which ``closed_form`` and ``dispatch`` are added up.
        notes: what a reader must know, a sentence each.
        columns: of ``count_rows``, for a network without any row.
        at_least: whether the totals are lower bounds, because operators ran that are unknown.
        coverage: how much of what runs has a closed form; a closed form of a part has no total.
        in_irrep_basis: what it costs with its group convolutions executed so, where that is another cost.
        name: that the network was given, beside what it is.
    """
    return {
        "schema": SCHEMA_VERSION,
        "model": model,
        **({"name": name} if name else {}),
        "arguments": {name: _json_value(value) for name, value in arguments.items()},
        "input": inputs,
        "convention": convention,
        "agrees": agreement(rows, at_least=at_least),
        "totals": totals(rows, columns),
        "at_least": at_least,
        "closed_form_coverage": coverage,
        **({"in_irrep_basis": dict(in_irrep_basis)} if in_irrep_basis else {}),
        "layers": [dict(row) for row in rows],
        "notes": list(notes),
    }


def cost_row(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One network's row in a table of several: ``agrees`` where both exact counters are there, ``model``, totals.

    Args:
        document: of ``count_document``.
        name: of the network in the table.
    """
    totals = document["totals"]
    both = {"closed_form", "dispatch"} <= set(totals)
    agrees = {"agrees": document["agrees"]} if both else {}
    marked = {"bound": "at least"} if document["at_least"] else {}
    return {**agrees, "model": name, "input": document["input"], **marked, **totals}


def _json_value(value: Any) -> Any:
    """The value itself, or its text where JSON has none: a date, a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (str, int)) else str(value)


def document_text(document: Mapping[str, Any]) -> str:
    """The object as JSON, one layer per line, ending with a newline."""

    def one_line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def per_line(values: Sequence[Any]) -> str:
        return "[" + ",".join(f"\n    {one_line(value)}" for value in values) + ("\n  ]" if values else "]")

    parts = (
        f"  {one_line(key)}: {per_line(value) if isinstance(value, list) else one_line(value)}"
        for key, value in document.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"
