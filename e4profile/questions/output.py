"""Where a command's words go: data to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from e4profile.questions.answers import kept

if TYPE_CHECKING:
    from e4profile.show.tables import Column, Table

_ERASE = "\r\x1b[2K"
_INTERRUPTED = 130
_QUIET_S = 2.0
_EVERY_S = 10.0
_SCREEN = 45
_AROUND_ROWS = 5
"""Lines of a title, a header and a total."""


def terminal_width() -> int | None:
    """The columns a table must fit in: the terminal's, or ``COLUMNS``; None when piped."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= 20:
        return int(columns)
    return max(20, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def screen_rows() -> int:
    """The rows of a table that fit the screen: of the terminal, or ``LINES``; of a usual one when piped."""
    lines = os.environ.get("LINES", "")
    high = int(lines) if lines.isdecimal() else shutil.get_terminal_size((80, _SCREEN)).lines
    return max(_SCREEN if not sys.stdout.isatty() and not lines else high, 12) - _AROUND_ROWS


def emit(
    table: Table | Callable[[str, str], Table | list[Table]],
    output_format: str,
    units: str = "auto",
    *,
    texts: Mapping[str, Callable[[], str]] | None = None,
    facts: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Write a table to stdout in one of the formats, or keep it for Python.

    Args:
        table: what to show, or what makes it, or several, of the format and the units.
        output_format: one of ``show.tables.FORMATS``, or of ``texts``.
        units: one of ``show.tables.UNITS``.
        texts: by format, where that is something else than the table.
        facts: what Python is told besides the table, by name.

    Raises:
        UnknownNameError: for a column of ``--columns`` that no table has; the others are shown before.
    """

    def made(output_format: str, units: str) -> list[Table]:
        found = table(output_format, units) if callable(table) else table
        return found if isinstance(found, list) else [found]

    texts = texts or {}
    answer = kept()
    if answer is not None:
        (answer.table,) = made("csv", "exact")
        answer.latex = texts.get("latex")
        answer.shown = [] if answer.latex else made("latex", "auto")
        answer.facts = {} if facts is None else facts()
        return
    if output_format in texts:
        sys.stdout.write(texts[output_format]())
        sys.stdout.flush()
        return
    from e4profile.errors import one_of
    from e4profile.show.paper import on_paper, paper
    from e4profile.show.tables import names_of, render

    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    width = terminal_width()
    tables, asked, found = made(output_format, units), paper(), []
    # columns are known once the work is done: it is shown, whatever was mistyped
    for one in tables:
        with on_paper(replace(asked, columns=tuple(name for name in asked.columns if name in names_of(one)))):
            found.append(render(one, output_format, width=width, color=color, units=units))
    sys.stdout.write("\n".join(found))
    sys.stdout.flush()
    for name in asked.columns:
        one_of("column", name, [known for one in tables for known in names_of(one)])


def note(*texts: str) -> None:
    """Write lines to stderr, or keep them for Python."""
    answer = kept()
    if answer is not None:
        answer.notes += texts
        return
    sys.stderr.write("".join(f"{text}\n" for text in texts))
    sys.stderr.flush()


def _tell(text: str) -> None:
    """Write a line to stderr of what is being done, which Python is not told."""
    if kept() is None:
        note(text)


def check_columns(*known: Column | str) -> None:
    """Refuse names of ``--columns`` that the table of a command will not have, before any time is spent.

    Args:
        known: the columns that it may have, or the keys of those that the vocabulary names.

    Raises:
        UnknownNameError: with the nearest names.
    """
    from e4profile.errors import one_of
    from e4profile.questions.columns import COLUMNS, named_column
    from e4profile.show.paper import paper

    columns = [(COLUMNS.get(one) or named_column(one, ())) if isinstance(one, str) else one for one in known]
    for name in paper().columns:
        one_of("column", name, [text for column in columns for text in (column.header, column.key)])


def check_files(records: Path | None = None, page: Path | None = None) -> None:
    """Refuse files of records and of tables that could not be written, before any time is spent."""
    if records is not None:
        from e4profile.records.store import RecordStore

        RecordStore(records).check_writable()
    if page is not None:
        from e4profile.show.html.page import check_writable

        check_writable(page)


def write_tables(
    page: Path | None, tables: Sequence[Table], figures: Sequence[Path] = (), notes: Sequence[str] = ()
) -> None:
    """Write tables as one page, where one is asked for, and say so."""
    if page is not None:
        from e4profile.show.html.page import write_page

        write_page(page, tables[0].title, tables, figures, notes)
        note(f"wrote {page}")


class _Ended(SystemExit):
    """A program that was told to end, by kill."""


@contextmanager
def on_interrupt(remark: str | Callable[[], str] | None) -> Iterator[None]:
    """Say where a command left what it had finished, should Ctrl-C or kill end it; nothing for None.

    Args:
        remark: the words, or what gives them once it is known how far the command came.
    """
    try:
        with _told_to_end():
            yield
    except (KeyboardInterrupt, _Ended):
        if remark is not None:
            # behind the terminal's ^C
            note(f"\n{remark if isinstance(remark, str) else remark()}")
        raise


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Raise where the system would end the process without a word; in Python that is left to the caller."""
    may = kept() is None and threading.current_thread() is threading.main_thread()
    if not may or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: object) -> None:
        raise _Ended(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_live() -> bool:
    """Whether a line of stderr may be rewritten: a command on a terminal."""
    return sys.stderr.isatty() and kept() is None


class _Line:
    """One line of stderr that is written anew each time, no wider than the terminal, and leaves nothing behind."""

    def __init__(self) -> None:
        self.shown = False

    def write(self, text: str) -> None:
        width = max(20, shutil.get_terminal_size().columns)
        sys.stderr.write(f"{_ERASE}{text[: width - 1]}")
        sys.stderr.flush()
        self.shown = True

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


class Progress:
    """How far a long command is, on stderr: on a terminal a bar with an estimate, which leaves nothing behind.

    Elsewhere a line at most every ten seconds, between steps and inside of them wherever the work gives a sign of life
    (``e4profile.witnesses.beat``); the first and the last line, for the log of a run of minutes; or a line before each
    step that ``begin`` is told of.

    Args:
        what: the command.
        total: how many steps there are.
        quiet: whether the first and the last line are left out.
    """

    _BAR = 20

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        self.what, self.total, self.done = what, total, 0
        self._start = time.monotonic()
        self._quiet = quiet
        self._said, self._text = self._start, "starting"
        self._live, self._line, self._hearing = _is_live(), _Line(), ExitStack()
        if self._live:
            self._draw("")
        elif not quiet:
            _tell(f"{what}: {total} to do")

    def begin(self, text: str) -> None:
        """Say what is done now, where no bar does."""
        if not self._live:
            _tell(text)

    def say(self, text: str) -> None:
        """Write a line of its own, above the bar where there is one."""
        self._line.clear()
        _tell(f"{self.what}: {text}")

    def step(self, text: str) -> None:
        """One more is done; ``text`` says which."""
        self.done += 1
        # on a terminal the bar says it
        self._text = f"after {text}"
        if not self._live:
            self._log()
        else:
            left = (time.monotonic() - self._start) / self.done * (self.total - self.done)
            self._draw(f", about {left:.0f} s left: {text}")

    def _log(self) -> None:
        """Say how far it is, where the last line is ten seconds old."""
        now = time.monotonic()
        if now - self._said >= _EVERY_S:
            self._said = now
            _tell(f"{self.what}: {self.done} of {self.total} done, {now - self._start:.0f} s, {self._text}")

    def close(self, *, failed: bool = False) -> None:
        """Leave the line behind; a failure has a line of its own."""
        self._line.clear()
        if not self._quiet or (self._live and self.done < self.total and not failed):
            _tell(f"{self.what}: {self.done} of {self.total} done")

    def _draw(self, text: str) -> None:
        filled = self._BAR * self.done // max(self.total, 1)
        bar = "#" * filled + "-" * (self._BAR - filled)
        self._line.write(f"{self.what} [{bar}] {self.done}/{self.total}{text}")

    def __enter__(self) -> Progress:
        if not self._live:
            from e4profile.witnesses.beat import heard

            self._hearing.enter_context(heard(self._log))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._hearing.close()
        self.close(failed=kind is not None and issubclass(kind, Exception))


def stop_interrupted() -> NoReturn:
    """End the program after what was finished before Ctrl-C has been shown; nothing of it was stored.

    Raises:
        KeyboardInterrupt: in Python, whose caller was interrupted too.
    """
    if kept() is not None:
        raise KeyboardInterrupt
    sys.stderr.write("\ne4profile: interrupted; the result above holds only what was finished\n")
    sys.exit(_INTERRUPTED)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that is told in words what is being done.

    On a terminal one line of stderr is rewritten; otherwise a line is written at most every ten seconds.
    """
    live, line = _is_live(), _Line()
    start = said = 0.0

    def say(text: str) -> None:
        nonlocal start, said
        now = time.monotonic()
        # what came before the first words (loading torch) is not the work
        start = start or now
        if now - start < _QUIET_S or (said and now - said < (0.1 if live else _EVERY_S)):
            return
        said = now
        words = f"{what}, {now - start:.0f} s: {text}"
        if live:
            line.write(words)
        else:
            _tell(words)

    try:
        yield say
    finally:
        line.clear()
