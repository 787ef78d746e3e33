"""One network's layers as a reader sees them: blocks where the layers are too many, the costliest, shares of the total.

JSON and CSV hold every layer unless a depth or a number of layers is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from e4profile.records.count_document import agreement, totals
from e4profile.witnesses.counts.registry import REGISTRY

if TYPE_CHECKING:
    from e4profile.show.tables import Table
    from e4profile.witnesses.counts.base import Count

Rows = Sequence[Mapping[str, Any]]

SHARE = "share_percent"


@dataclass(frozen=True)
class Shown:
    """The rows of ``count_rows`` that are shown, and the sum of those that are not.

    Attributes:
        rows: layers; or blocks, each with the number of its ``layers``.
        rest: the sum of what ``--top`` leaves out, where it leaves anything out.
        note: how to see every layer; empty where all are shown.
    """

    rows: list[dict[str, Any]]
    rest: dict[str, Any] | None = None
    note: str = ""


def shown_layers(rows: Rows, ran: Count, depth: int | None, top: int | None, room: int | None) -> Shown:
    """Layers or blocks, and the costliest of them.

    Args:
        rows: of ``count_rows``.
        ran: the dispatch counter's, which knows the class and the output of a block.
        depth: names in a block's path; None for as many as give no more rows than there is room for.
        top: how many rows, the costliest first; None for all in their order.
        room: rows of a screen; None for any number.
    """
    found = Shown([dict(row) for row in rows])
    deepest = max((_parts(row["path"]) for row in rows), default=1)
    if depth is None and top is None and room is not None:
        depth = next((one for one in range(deepest, 1, -1) if len({_cut(row["path"], one) for row in rows}) <= room), 1)
    if depth is not None and depth < deepest:
        blocks: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            blocks.setdefault(_cut(row["path"], depth), []).append(row)
        summed = [_block(path, inside, ran) for path, inside in blocks.items()]
        if len(summed) < len(rows):
            note = f"blocks at depth {depth} of {deepest}: --depth {deepest} shows all {len(rows):,} layers"
            found = Shown(summed, note=note)
    return found if top is None or top >= len(found.rows) else _costliest(found, top, ran)


def _costliest(found: Shown, top: int, ran: Count) -> Shown:
    key = _shared(found.rows[0]) if found.rows else ""
    ordered = sorted(found.rows, key=lambda row: -(row[key] or 0))
    rest = _block(f"the other {len(ordered) - top:,}", ordered[top:], ran)
    text = f"the {top:,} costliest of {len(ordered):,}, by {key.replace('_', ' ')}"
    return replace(found, rows=ordered[:top], rest=rest, note="; ".join(filter(None, (text, found.note))))


def _parts(path: str) -> int:
    return path.count(".") + 1


def _cut(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def _block(path: str, inside: Rows, ran: Count) -> dict[str, Any]:
    """The sum of some rows; of one layer alone, itself."""
    layers = {"layers": sum(row.get("layers", 1) for row in inside)}
    if len(inside) == 1 and inside[0]["path"] == path:
        return {**inside[0], **layers}
    agrees = {"agrees": agreement(inside)} if "agrees" in inside[0] else {}
    named = {"path": path, "layer": ran.classes.get(path), "output": ran.outputs.get(path)}
    return {**agrees, **named, **totals(inside), **layers}


def _shared(row: Mapping[str, Any]) -> str:
    """The witness whose total is shared out: what runs, else the closed form, else the first that is there."""
    counted = [spec.key for spec in REGISTRY.values() if spec.key in row]
    return next((key for key in ("dispatch", "closed_form", *counted) if key in counted), "params")


def layers_table(
    title: str,
    shown: Shown,
    document: Mapping[str, Any],
    convention_words: str,
    keys: Sequence[str],
    *,
    for_readers: bool,
) -> Table:
    """A row per layer or block and, for readers, the rest, the sum, and no column that holds nothing.

    Args:
        title: of the table.
        shown: what is shown of the layers.
        document: of ``count_document``, for the totals and the notes.
        convention_words: what counts as what.
        keys: of ``count_columns``.
        for_readers: False for a file with a row per layer and every column.
    """
    from e4profile.questions.columns import table_of_rows
    from e4profile.show.tables import Column, without_empty

    whole = {"agrees": document["agrees"], "path": "total", **document["totals"]}
    if document["at_least"]:
        whole["path"] = "total, at least"
    rows = [*shown.rows, *([shown.rest] if shown.rest else []), whole] if for_readers else shown.rows
    key = _shared(whole)
    total = document["totals"].get(key)
    rows = [{**row, SHARE: Fraction(100 * row[key], total) if total and row[key] is not None else None} for row in rows]
    keys = [one for one in keys if one != "output"] if for_readers else list(keys)
    if for_readers:
        keys.insert(keys.index("layer") + 1, "output")
    keys.insert(keys.index(key) + 1 if for_readers else len(keys), SHARE)
    if any("layers" in row for row in shown.rows):
        keys.insert(keys.index("path") + 1, "layers")
        rows[-1].setdefault("layers", sum(row["layers"] for row in rows[:-1]) if for_readers else None)
    table = table_of_rows(
        title,
        rows,
        [*([shown.note] if shown.note else []), *document["notes"]],
        convention_words,
        keys=keys,
        columns=(Column(SHARE, "share", "percent", priority=65), Column("layers", "layers", "integer", priority=45)),
        priorities={"layer": 60, "output": 55},
    )
    return without_empty(table) if for_readers else table
