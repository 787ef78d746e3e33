"""Reading a card: typed access to its tables, with errors that name file, key and reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from e4profile.conventions import convention
from e4profile.errors import SettingError, UnknownNameError
from e4profile.networks.cards import GPU_MEMORY, UNRESOLVED, VERDICTS, Card, CardError, Cell, PublishedRow
from e4profile.networks.published import parse_printed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROUNDINGS = ("rounded", "truncated")
_CARD_KEYS = {"name", "title", "network", "input", "source", "notes", "arguments", "published", "training"}
_ROW_KEYS = {"table", "order", "row", "source", "arguments"}
_CELL_KEYS = {"value", "convention", "rounding", "verdict", "evidence", "arguments", "spread", "unit"}


def parse_card(text: str, file: str) -> Card:
    """A card from TOML text; ``file`` is for messages.

    Raises:
        CardError: naming file, key and reason.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise CardError(f"{file}: not a card: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{file}: not TOML: {error}") from error
    reader = _Reader(file)
    reader.known(data, _CARD_KEYS, "")
    input_shape = reader.need(data, "input", list, "")
    if len(input_shape) != 3 or not all(type(size) is int and size > 0 for size in input_shape):
        raise CardError(f"{file}: input: {input_shape!r} must be three positive integers, channels, height, width")
    notes = reader.get(data, "notes", list, [], "")
    return Card(
        name=reader.need(data, "name", str, ""),
        title=reader.get(data, "title", str, data["name"], ""),
        network=reader.need(data, "network", str, ""),
        input=tuple(input_shape),
        arguments=reader.get(data, "arguments", dict, {}, ""),
        source=reader.get(data, "source", str, "", ""),
        published=tuple(reader.rows(data)),
        notes=tuple(str(note) for note in notes),
        training=reader.get(data, "training", dict, {}, ""),
        file=file,
    )


class _Reader:
    """Typed access to a card's tables, with errors that say where."""

    def __init__(self, file: str) -> None:
        self.file = file

    def need(self, table: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
        if key not in table:
            raise CardError(f"{self.file}: {where}{key}: missing")
        return self.get(table, key, kind, None, where)

    def get(self, table: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
        value = table.get(key, default)
        if key in table and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise CardError(f"{self.file}: {where}{key}: {value!r} must be of type {kind.__name__}")
        return value

    def known(self, table: Mapping[str, Any], keys: set[str], where: str) -> None:
        for key in table:
            if key not in keys:
                raise CardError(f"{self.file}: {where}{key}: unknown key; known: {', '.join(sorted(keys))}")

    def rows(self, data: Mapping[str, Any]) -> Iterator[PublishedRow]:
        for index, table in enumerate(self.get(data, "published", list, [], "")):
            where = f"published[{index}]."
            if not isinstance(table, dict):
                raise CardError(f"{self.file}: {where.rstrip('.')}: must be a table")
            cells = {key: value for key, value in table.items() if isinstance(value, dict) and key != "arguments"}
            self.known({key: 0 for key in table if key not in cells}, _ROW_KEYS, where)
            yield PublishedRow(
                table=self.need(table, "table", str, where),
                order=self.need(table, "order", int, where),
                row=self.need(table, "row", str, where),
                source=self.need(table, "source", str, where),
                arguments=self.get(table, "arguments", dict, {}, where),
                cells=tuple(self.cell(key, cell, f"{where}{key}.") for key, cell in cells.items()),
            )

    def cell(self, quantity: str, table: Mapping[str, Any], where: str) -> Cell:
        self.known(table, _CELL_KEYS, where)
        for key in _CELL_KEYS - {"arguments"}:
            self.get(table, key, str, None, where)
        cell = Cell(quantity=quantity, **{**table, "value": self.need(table, "value", str, where)})
        self.get(table, "arguments", dict, {}, where)
        if cell.rounding not in _ROUNDINGS:
            raise CardError(f"{self.file}: {where}rounding: {cell.rounding!r} must be one of {', '.join(_ROUNDINGS)}")
        if not cell.compared:
            return cell
        if cell.verdict not in VERDICTS:
            raise CardError(f"{self.file}: {where}verdict: {cell.verdict!r} must be one of {', '.join(VERDICTS)}")
        if cell.verdict == UNRESOLVED and not cell.evidence:
            raise CardError(f"{self.file}: {where}evidence: missing; an unresolved cell must say why")
        key = "value"
        try:
            parse_printed(cell.value)
            if quantity not in ("params", GPU_MEMORY):
                key = "convention"
                convention(self.need(table, key, str, where))
        except (SettingError, UnknownNameError) as error:
            raise CardError(f"{self.file}: {where}{key}: {error}") from error
        return cell
