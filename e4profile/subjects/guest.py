"""Running somebody's code as a guest: what it changes in the process is given back, and its errors stay its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from e4profile.errors import E4ProfileError
from e4profile.subjects.as_found import random_state_kept
from e4profile.subjects.process import apply, settings

_STDOUT = 1
_OWN_FOLDER = str(Path(__file__).resolve().parents[1])
_TORCH_FOLDER = str(Path(torch.__file__).parent)


class UserCodeError(E4ProfileError):
    """An error of the user's own code: one line that says where, and its traceback in ``details``."""

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self.details = "" if error is None else own_traceback(error)


class Guest:
    """The process as one guest's code wants it: what it sets holds while it runs, and nowhere else.

    Attributes:
        folder: where its code imports from while it runs.
        path_first, path_last: what it put before and behind the entries of ``sys.path``.
        changed: what it set, by name, as ``(before, after)``.
        digest: of its files, once it was asked for (see ``e4profile.subjects.user_code.code_digest``).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder: str | None = None
        self.path_first: list[str] = []
        self.path_last: list[str] = []
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.digest = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the guest's code: its settings hold inside, and the process's return after it, also on errors.

        What it prints goes to stderr, also what it writes past Python: stdout is for data. Random numbers of torch,
        NumPy and Python go on where they were.
        """
        before = settings()
        python, numpy = random.getstate(), np.random.get_state()
        path = list(sys.path)
        folder = [] if self.folder is None else [self.folder]
        sys.path[:] = [*self.path_first, *folder, *path, *self.path_last]
        apply({name: after for name, (_, after) in self.changed.items()})
        try:
            with random_state_kept(), _descriptor_kept_for_data(), contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            for name, value in settings().items():
                if value == before[name]:
                    self.changed.pop(name, None)
                else:
                    self.changed[name] = (before[name], value)
            apply(before)
            random.setstate(python)
            np.random.set_state(numpy)
            self._note_path([*folder, *path])
            sys.path[:] = path

    def _note_path(self, given: list[str]) -> None:
        """Remember what its code put on ``sys.path`` for its next run, beside what it was given."""
        first = next((at for at, entry in enumerate(sys.path) if entry in given), len(sys.path))
        self.path_first = sys.path[:first]
        self.path_last = [entry for entry in sys.path[first:] if entry not in given]

    @property
    def notes(self) -> list[str]:
        """What was given back, a sentence each."""
        return [
            f"{self.name} changed {_WORDS[name]} from {before} to {after}: in force while it runs and undone afterwards"
            for name, (before, after) in self.changed.items()
        ]


@contextmanager
def _descriptor_kept_for_data() -> Iterator[None]:
    """Point the descriptor of stdout to stderr, for code that writes past Python: C's printf, a process of its own.

    Where stdout or stderr is no open file of the system, as in a notebook, nothing is done.
    """
    try:
        # another descriptor holds the data already where Python's stdout is elsewhere
        kept = os.dup(_STDOUT) if sys.stdout.fileno() == _STDOUT else None
        err = sys.stderr.fileno()
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):
        kept = None
    if kept is None:
        yield
        return
    try:
        os.dup2(err, _STDOUT)
        yield
    finally:
        # what C still holds would come out at the end of the program, amid the data
        _flush_c()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _flush_c() -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


_WORDS = {
    "default_dtype": "torch's default dtype",
    "default_device": "torch's default device",
    "grad_mode": "whether gradients are recorded",
    "threads": "the number of intra-operator threads",
    "deterministic": "whether algorithms must be deterministic",
    "matmul_precision": "the precision of float32 products",
    "folder": "the working directory",
}


def own_traceback(error: BaseException) -> str:
    """The traceback without the frames of this package, of torch and of the import machinery."""
    shown = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in shown.stack if not _is_ours(frame.filename)]
    chained = error.__cause__ is not None or error.__context__ is not None
    if not (kept or chained or isinstance(error, SyntaxError)):
        # no line of the user's own: the one line on top has said all
        return ""
    shown.stack = traceback.StackSummary.from_list(kept)
    return "".join(shown.format())


def _is_ours(filename: str) -> bool:
    if "importlib" in filename or filename.startswith(_TORCH_FOLDER) or filename.endswith("contextlib.py"):
        return True
    return filename.startswith(_OWN_FOLDER) and "layers" not in Path(filename).parts


STOPPED = (KeyboardInterrupt, GeneratorExit)
"""What ends the whole program and is no error of somebody's code; ``SystemExit`` and all else is."""


def text_of(error: BaseException) -> str:
    """What an error says, also where its own ``__str__`` raises."""
    try:
        return str(error)
    except STOPPED:
        raise
    except BaseException as failure:
        return f"(its text cannot be shown: __str__ raises {type(failure).__name__})"


def first_line(error: BaseException) -> str:
    """``TypeError: what it says``, on one line."""
    text = text_of(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def first_sentence(error: BaseException) -> str:
    """The same without what PyTorch adds to a refusal: advice to its developers, and every backend there is."""
    return re.split(r"\.\s|\. ?$", first_line(error), maxsplit=1)[0]


def failing_module(model: nn.Module, trace: TracebackType | None) -> tuple[str, str] | None:
    """Path and class of the innermost module whose code was running when an error was raised."""
    paths = {module: path for path, module in model.named_modules()}
    found: tuple[str, str] | None = None
    for frame, _ in traceback.walk_tb(trace):
        own = frame.f_locals.get("self")
        if isinstance(own, nn.Module):
            if not paths or own not in paths:
                # what ran is a copy of the model
                paths = {module: path for path, module in own.named_modules()}
            found = (paths[own], type(own).__name__)
    return found


def run_error(name: str, model: nn.Module, inputs: str, error: BaseException) -> UserCodeError:
    """What a model's forward raised, with the module in which it happened."""
    where = failing_module(model, error.__traceback__)
    place = "" if where is None else f"in {where[0] or 'the network itself'} ({where[1]}): "
    whole = " ".join(text_of(error).split())
    return UserCodeError(f"{name} cannot run on {inputs}: {place}{type(error).__name__}: {whole}", error)
