"""What a command answers: written on the command line, kept for Python. One path leads to both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e4profile.show.style import Plot
    from e4profile.show.tables import Table


@dataclass
class Answer:
    """What a command that Python called would have written.

    Attributes:
        table: with every digit and every column, as programs get it.
        shown: the same as people get it in LaTeX, perhaps as several.
        latex: the text of LaTeX, where that is something else than a table.
        notes: what went to stderr.
        facts: what Python is told besides, by name: totals, gaps, a verdict.
        figures: each draws the numbers, or some of them; empty where the command has no figure.
        exit_code: of the command.
    """

    table: Table | None = None
    shown: list[Table] = field(default_factory=list)
    latex: Callable[[], str] | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    figures: list[Callable[[], list[Plot]]] = field(default_factory=list)
    exit_code: int = 0


_KEPT: ContextVar[Answer | None] = ContextVar("kept", default=None)


def kept() -> Answer | None:
    """The answer that is kept now; None on the command line."""
    return _KEPT.get()


@contextmanager
def keeping() -> Iterator[Answer]:
    """Keep what commands answer, and write nothing."""
    answer = Answer()
    before = _KEPT.set(answer)
    try:
        yield answer
    finally:
        _KEPT.reset(before)
