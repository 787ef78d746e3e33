"""What a paper asks of tables and figures: its column's width, its type, what to leave out.

One setting holds for all that a command shows, so that a format asks here and no command passes it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from e4profile.errors import SettingError

COLUMN_CM = 8.5
"""One of two columns of an article."""

CM_PER_INCH = 2.54
_NARROWEST_CM, _WIDEST_CM = 4.0, 60.0

LEAST_POINTS = 7.0
"""The smallest type that is set at a column's width."""


@dataclass(frozen=True)
class Paper:
    """What is asked of tables in LaTeX and of figures.

    Attributes:
        width_cm: that both fit.
        font: a family of the figures' text; empty for the usual one.
        font_points: of the figures' text.
        bare: whether titles and notes are left out; LaTeX keeps notes as comments.
        columns: of tables, by key or header, in this order; empty for those that fit.
        caption: in LaTeX, instead of the title; as it is, so that it may hold commands.
        label: in LaTeX.

    Raises:
        SettingError: for a width or a size of type that no page has, a caption or a label that would not compile.
    """

    width_cm: float = COLUMN_CM
    font: str = ""
    font_points: float = LEAST_POINTS
    bare: bool = False
    columns: tuple[str, ...] = ()
    caption: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not _NARROWEST_CM <= self.width_cm <= _WIDEST_CM:
            raise SettingError(f"--width (={self.width_cm:g} cm) must be from {_NARROWEST_CM:g} to {_WIDEST_CM:g} cm")
        if self.caption is not None and not _balanced(self.caption):
            raise SettingError(
                rf"--caption {self.caption!r} has braces without their counterpart; a brace as text is \{{"
            )
        if self.label is not None and (odd := re.search(r"[{}\\%#~^$&\s]", self.label)):
            raise SettingError(
                f"--label {self.label!r} holds {odd[0]!r}, which LaTeX does not take there; write it as tab:costs"
            )
        if not LEAST_POINTS <= self.font_points <= 24:
            raise SettingError(f"--font (={self.font_points:g} pt) must be from {LEAST_POINTS:g} to 24 pt")

    @property
    def width_inches(self) -> float:
        """The width in inches."""
        return self.width_cm / CM_PER_INCH


def _balanced(text: str) -> bool:
    """Whether the braces that open and close groups do so."""
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


_CM = {"cm": 1.0, "mm": 0.1, "in": CM_PER_INCH, "pt": CM_PER_INCH / 72.27}


def length_cm(text: str) -> float:
    """A length as people write it, ``8.5cm``, ``85mm``, ``3.35in`` or ``242pt``, in cm; a bare number is cm.

    Raises:
        SettingError: for a text that is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(cm|mm|in|pt)?", text.strip())
    if found is None:
        raise SettingError(f"{text!r} is not a length such as 8.5cm, 85mm, 3.35in or 242pt")
    return float(found[1]) * _CM[found[2] or "cm"]


def font_named(text: str) -> tuple[str, float]:
    """The family and the points of ``serif``, ``8pt`` or ``serif,8``.

    Raises:
        SettingError: for two families or two sizes.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    points = [part.removesuffix("pt").strip() for part in parts if re.fullmatch(r"\d+(\.\d+)?\s*(pt)?", part)]
    families = [part for part in parts if part[:1].isalpha()]
    if not parts or len(points) > 1 or len(families) > 1 or len(points) + len(families) != len(parts):
        raise SettingError(f"--font {text!r} must be a family, a size in points, or both, such as serif,8pt")
    return "".join(families), float(points[0]) if points else LEAST_POINTS


_PAPER: ContextVar[Paper | None] = ContextVar("paper", default=None)


def paper() -> Paper:
    """What is asked for now."""
    return _PAPER.get() or Paper()


@contextmanager
def on_paper(asked: Paper) -> Iterator[None]:
    """Set tables and figures in this way."""
    before = _PAPER.set(asked)
    try:
        yield
    finally:
        _PAPER.reset(before)
