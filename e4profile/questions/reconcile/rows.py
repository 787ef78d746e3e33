"""What was published: figures, and the rows that they stand in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from e4profile.errors import SettingError, one_of
from e4profile.networks.published import parse_printed
from e4profile.questions.reconcile.space import Change
from e4profile.subjects.subject import Subject

QUANTITIES = ("params", "flops", "macs")
"""The published quantities that can be reconciled."""


@dataclass(frozen=True)
class Figure:
    """One published figure: ``params``, ``flops`` or ``macs``, as printed.

    Raises:
        UnknownNameError: for another quantity.
        SettingError: for a text that is no positive figure.
    """

    quantity: str
    text: str

    def __post_init__(self) -> None:
        one_of("quantity", self.quantity, QUANTITIES)
        if parse_printed(self.text)[0] <= 0:
            raise SettingError(f"{self.quantity} (={self.text!r}) must be positive")

    @property
    def value(self) -> Fraction:
        """What is printed."""
        return Fraction(parse_printed(self.text)[0])

    @property
    def rounded(self) -> tuple[int, int]:
        """First and last count that are printed so when rounded."""
        value, half = self.value, Fraction(parse_printed(self.text)[1]) / 2
        return math.ceil(value - half), math.ceil(value + half) - 1

    @property
    def truncated(self) -> tuple[int, int]:
        """First and last count that are printed so when truncated."""
        return math.ceil(self.value), math.ceil(self.value + Fraction(parse_printed(self.text)[1])) - 1

    @property
    def selectivity(self) -> Fraction:
        """The width of the window of counts that are printed so, relative to the figure."""
        return (self.truncated[1] - self.rounded[0] + 1) / self.value


@dataclass(frozen=True)
class Row:
    """One published row: the network it is about, and its figures."""

    label: str
    subject: Subject
    figures: tuple[Figure, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> tuple[Figure, ...]:
        """The figures that no counting rule can change."""
        return tuple(figure for figure in self.figures if figure.quantity == "params")

    @property
    def operations(self) -> tuple[Figure, ...]:
        """The figures that depend on the counting rule."""
        return tuple(figure for figure in self.figures if figure.quantity != "params")

    def changed(self, changes: tuple[Change, ...]) -> Subject:
        """The network with changed arguments; what the printed row itself says comes last."""
        return self.subject.with_arguments(dict(changes)).with_arguments(self.arguments)


def published_rows(subject: Subject, rows_of: Subject | None = None, table: str | None = None) -> list[Row]:
    """The rows that are published of a network, as printed: recorded conventions and verdicts are not looked at.

    Args:
        subject: the network that the figures are tried on.
        rows_of: the network whose rows are taken; the network itself when None.
        table: only the rows of this table.

    Raises:
        SettingError: when there is no row with a figure that can be reconciled.
    """
    source = rows_of or subject
    found = []
    for row in source.published:
        figures = tuple(Figure(cell.quantity, cell.value) for cell in row.cells if cell.quantity in QUANTITIES)
        if figures and table in (None, row.table):
            label = f"table {row.table}, {row.row}"
            found.append(Row(label, subject, figures, dict(row.arguments)))
    if not found:
        where = "" if table is None else f" in table {table!r}"
        text = f"{source.name} has no published params, flops or macs{where}"
        raise SettingError(f"{text}: give its figures, --params 18.8K --flops 17M")
    return found
