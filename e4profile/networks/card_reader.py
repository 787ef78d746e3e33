"""Reading a card: errors name file, key and reason."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from e4profile.conventions import CHARGE_KINDS, convention
from e4profile.errors import SettingError, UnknownNameError, from_table, parse_toml
from e4profile.networks.cards import COMPARED, GPU_MEMORY, UNRESOLVED, VERDICTS, Card, CardError, Cell, PublishedRow
from e4profile.networks.published import parse_printed

_ROUNDINGS = ("rounded", "truncated")
_NEEDED = {"name": 'name = "my-net"', "input": "input = [3, 32, 32]"}


def parse_card(text: str, file: str) -> Card:
    """A card from TOML text; ``file`` is for messages.

    Raises:
        CardError: naming file, key and reason.
    """
    data = parse_toml(text, file, CardError)
    rows = data.pop("published", [])
    if isinstance(rows, list):
        rows = [_row(table, f"{file}: published[{index}].", file) for index, table in enumerate(rows)]
    given = {"title": "", "arguments": {}, **({"network": ""} if "builder" in data else {}), **data}
    card = from_table(_with_needed(given, file), Card, f"{file}: ", CardError, published=rows, file=file, overridden=())
    _check_source(card, file)
    if card.builder and (not card.input or min(card.input) < 1):
        raise CardError(f"{file}: input: {list(card.input)} must be positive integers, the sizes without the batch")
    if not card.builder and (len(card.input) != 3 or min(card.input) < 1):
        raise CardError(f"{file}: input: {card.input} must be three positive integers, channels, height, width")
    for index, row in enumerate(card.published):
        for cell in row.cells:
            if card.builder and cell.convention and set(convention(cell.convention).weights) & set(CHARGE_KINDS):
                raise CardError(
                    f"{file}: published[{index}].{cell.quantity}.convention: {cell.convention!r} charges what only "
                    "layers of e4profile state: name another rule, or a file of weights"
                )
    return card if card.title else replace(card, title=card.name)


def _with_needed(table: dict[str, Any], file: str) -> dict[str, Any]:
    """The table itself, where it has the keys that every card needs, and no other is misspelt."""
    known = {field.name for field in fields(Card)}
    if set(table) <= known:
        for key, example in _NEEDED.items():
            if key not in table:
                raise CardError(f"{file}: {key}: missing; for example {example}")
        if "network" not in table:
            raise CardError(
                f"{file}: network: missing; name a topology of e4profile, or code with builder = "
                '"package.module:function" or builder = "net.py:function"'
            )
    return table


def _check_source(card: Card, file: str) -> None:
    if card.builder:
        if card.network:
            raise CardError(
                f"{file}: builder: {card.builder!r} and network {card.network!r} are both given: give one of them"
            )
        source, _, function = card.builder.rpartition(":")
        if not source or not all(part.isidentifier() for part in function.split(".")):
            raise CardError(
                f"{file}: builder: {card.builder!r} must name code behind a colon, for example builder = "
                '"net.py:build" or builder = "package.module:build"'
            )
        return
    for key in ("builder", "install", "commit"):
        value = getattr(card, key)
        if value:
            raise CardError(f"{file}: {key}: {value!r} is about a builder's package: name a builder, or omit {key}")
    if not card.network:
        raise CardError(
            f"{file}: network: '' names no topology; give its name, or builder = \"package.module:function\""
        )


def _row(table: Any, where: str, file: str) -> Any:
    if not isinstance(table, dict):
        return table
    cells = {key: value for key, value in table.items() if isinstance(value, dict) and key != "arguments"}
    for key in set(COMPARED) & set(table) - set(cells):
        raise CardError(
            f"{where}{key}: {table[key]!r} must be a table, for example {key} = "
            '{ value = "5.0M", verdict = "reproduced" }'
        )
    given = {"arguments": {}, **{key: value for key, value in table.items() if key not in cells}}
    built = [_cell(key, cell, f"{where}{key}.", file) for key, cell in cells.items()]
    return from_table(given, PublishedRow, where, CardError, cells=built)


def _cell(quantity: str, table: dict[str, Any], where: str, file: str) -> Cell:
    cell = from_table(table, Cell, where, CardError, quantity=quantity)
    if cell.rounding not in _ROUNDINGS:
        raise CardError(f"{where}rounding: {cell.rounding!r} must be one of {', '.join(_ROUNDINGS)}")
    if not cell.compared:
        return cell
    if cell.verdict not in VERDICTS:
        raise CardError(f"{where}verdict: {cell.verdict!r} must be one of {', '.join(VERDICTS)}")
    if cell.verdict == UNRESOLVED and not cell.evidence:
        raise CardError(f"{where}evidence: missing; an unresolved cell must say why")
    if cell.convention is not None and cell.convention.endswith(".toml"):
        # a file of weights stands beside the card
        cell = replace(cell, convention=str(Path(file).parent / cell.convention))
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
