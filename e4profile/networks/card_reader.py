"""Reading a card: errors name file, key and reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from e4profile.conventions import convention
from e4profile.errors import SettingError, UnknownNameError, from_table, parse_toml
from e4profile.networks.cards import GPU_MEMORY, UNRESOLVED, VERDICTS, Card, CardError, Cell, PublishedRow
from e4profile.networks.published import parse_printed

_ROUNDINGS = ("rounded", "truncated")


def parse_card(text: str, file: str) -> Card:
    """A card from TOML text; ``file`` is for messages.

    Raises:
        CardError: naming file, key and reason.
    """
    data = parse_toml(text, file, CardError)
    rows = data.pop("published", [])
    if isinstance(rows, list):
        rows = [_row(table, f"{file}: published[{index}].") for index, table in enumerate(rows)]
    given = {"title": "", "arguments": {}, **data}
    card = from_table(given, Card, f"{file}: ", CardError, published=rows, file=file, overridden=())
    if len(card.input) != 3 or min(card.input) < 1:
        raise CardError(f"{file}: input: {card.input} must be three positive integers, channels, height, width")
    return card if card.title else replace(card, title=card.name)


def _row(table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        return table
    cells = {key: value for key, value in table.items() if isinstance(value, dict) and key != "arguments"}
    given = {"arguments": {}, **{key: value for key, value in table.items() if key not in cells}}
    built = [_cell(key, cell, f"{where}{key}.") for key, cell in cells.items()]
    return from_table(given, PublishedRow, where, CardError, cells=built)


def _cell(quantity: str, table: dict[str, Any], where: str) -> Cell:
    cell = from_table(table, Cell, where, CardError, quantity=quantity)
    if cell.rounding not in _ROUNDINGS:
        raise CardError(f"{where}rounding: {cell.rounding!r} must be one of {', '.join(_ROUNDINGS)}")
    if not cell.compared:
        return cell
    if cell.verdict not in VERDICTS:
        raise CardError(f"{where}verdict: {cell.verdict!r} must be one of {', '.join(VERDICTS)}")
    if cell.verdict == UNRESOLVED and not cell.evidence:
        raise CardError(f"{where}evidence: missing; an unresolved cell must say why")
    key = "value"
    try:
        parse_printed(cell.value)
        if quantity not in ("params", GPU_MEMORY):
            key = "convention"
            if cell.convention is None:
                raise SettingError("missing")
            convention(cell.convention)
    except (SettingError, UnknownNameError) as error:
        raise CardError(f"{where}{key}: {error}") from error
    return cell
