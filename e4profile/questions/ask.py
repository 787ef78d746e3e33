"""Asking a command from Python: values in place of texts, a ``Result`` in place of a table on stdout.

The command itself runs, with its checks and its refusals, so that nothing is said of it a second time here.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from operator import index
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from e4profile.errors import SettingError
from e4profile.questions.entry import Command

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from torch import Tensor, nn

    from e4profile.questions.answers import Answer
    from e4profile.questions.result import Result

    Network: TypeAlias = str | nn.Module
    """A card's name or file, ``file.py:Net``, ``package.module:Net`` with or without arguments, or a module."""

    Networks: TypeAlias = Network | Sequence[Network]
    """One network, or several side by side."""

    Inputs: TypeAlias = str | Sequence[Any] | Mapping[str, Any] | Tensor
    """Of one call: ``"1x3x32x32"`` or several such texts, a shape, a tensor, a dict of keywords, or a sequence."""

    Arguments: TypeAlias = Mapping[str, Any]
    """Of a card or a builder, by name."""

    Names: TypeAlias = str | Sequence[str]
    """One name or several."""

    Values: TypeAlias = Mapping[str, Any] | str | Sequence[str]
    """By name, ``{"width": [8, 16]}`` or ``{"params": "1M"}``, or as the command line has them: ``"width=8,16"``."""

    Numbers: TypeAlias = int | Sequence[int]
    """One number or several."""

    Loss: TypeAlias = str | Callable[[Any], Tensor]
    """A loss by name, or a function of the output."""

    File: TypeAlias = str | os.PathLike[str]

_BY_VALUE = frozenset({"set", "arg", "to_arg"})
"""Arguments of networks, which keep the values that they have in Python."""


@dataclass(frozen=True)
class Option:
    """A parameter of a command, as the command line and as Python name it.

    Attributes:
        parameter: the name in the command.
        name: in Python: that of the option, with an underscore behind a word of the language.
        flag: on the command line; empty for an argument.
        kind: of its values: ``str``, ``int``, ``list[str]``, ...
        default: the command's.
        info: what typer knows of it.
    """

    parameter: str
    name: str
    flag: str
    kind: Any
    default: Any
    info: Any

    def read(self, value: Any) -> Any:
        """A value of Python as the command takes it.

        Raises:
            SettingError: for one of another type, or outside of what the option takes.
            Whatever the option refuses.
        """
        if value is None:
            return None if self.default in (None, Parameter.empty) else self.default
        found = self._typed(value)
        least = getattr(self.info, "min", None)
        if least is not None and found < least:
            raise SettingError(f"{self.flag} (={found!r}) must be at least {least}")
        check = getattr(self.info, "callback", None)
        if check is None:
            return found
        if len(signature(check).parameters) == 1:
            return check(found)
        return check(SimpleNamespace(opts=[self.flag]), found)

    def _typed(self, value: Any) -> Any:
        if get_origin(self.kind) is list:
            (kind,) = get_args(self.kind)
            if isinstance(value, Mapping) and self.name in _BY_VALUE | {"input"}:
                return value
            if self.name == "input":
                return _inputs(value)
            return [Path(one) if kind is Path else one for one in _texts(value)]
        if self.kind is Path:
            return value if isinstance(value, Mapping) else Path(value)
        if self.kind is str or getattr(self.info, "parser", None) is str:
            return (
                value if not isinstance(value, (int, float, list, tuple, range)) else ",".join(map(str, _many(value)))
            )
        words = {bool: "True or False", int: "a whole number", float: "a number"}[self.kind]
        try:
            if self.kind is bool and not isinstance(value, bool):
                raise TypeError
            return value if self.kind is bool else index(value) if self.kind is int else float(value)
        except (TypeError, ValueError):
            raise SettingError(f"{self.flag} (={value!r}) must be {words}") from None


def options_of(command: Command) -> Iterator[Option]:
    """The command's parameters, without those that Python has no use for."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in signature(command).parameters.items():
        hint = hints[name]
        if get_origin(hint) is not Annotated:
            # before Python 3.11 a default of None makes the type optional once more
            hint = next(one for one in get_args(hint) if get_origin(one) is Annotated)
        kind, info = get_args(hint)[:2]
        if get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not NoneType)
        # typer keeps the first flag of an annotation where its default was before there were annotations
        flags = (one.partition("/")[0] for one in (info.default, *(info.param_decls or ())) if isinstance(one, str))
        flag = next((one for one in flags if one.startswith("--")), "")
        known = flag.removeprefix("--").replace("-", "_") or name
        named = f"{known}_" if keyword.iskeyword(known) else known
        yield Option(name, named, flag, kind, parameter.default, info)


def ask(command: Command, given: Mapping[str, Any]) -> Result:
    """What a command answers to values of Python.

    Three sizes, ``(3, 32, 32)``, are one image where the network does not run on them as they are, or where a batch
    is given.

    Args:
        command: of a question.
        given: what its function in Python was called with, by name; ``cards`` are folders of cards or card files.

    Raises:
        Whatever the command raises. What a module in hand raises is its caller's own error, and stays as it is.
    """
    from e4profile.questions.result import result_of
    from e4profile.subjects.guest import UserCodeError

    sizes: Any = given.get("input")
    if not _are_three_sizes(sizes):
        tried = [given]
    elif given.get("batch_size") is not None:
        tried = [{**given, "input": (1, *sizes)}]
    else:
        tried = [given, {**given, "input": (1, *sizes)}]
    notes: list[str] = []
    while True:
        values = tried.pop(0)
        try:
            answer = _answer(command, values)
        except UserCodeError as error:
            if tried:
                notes = [f"{tuple(sizes)} is read as one image: the network does not run on an input of three sizes"]
                continue
            if error.__cause__ is None or not _in_hand(values):
                raise
            raise error.__cause__ from None
        answer.notes += notes
        return result_of(answer)


def _answer(command: Command, given: Mapping[str, Any]) -> Answer:
    from e4profile.networks.found_cards import looking_in
    from e4profile.questions.answers import keeping

    known = {one.name: one for one in options_of(command)}
    values = {known[name].parameter: known[name].read(value) for name, value in given.items() if name != "cards"}
    formats = {} if known["format"].default == "text" else {"output_format": "csv"}
    with looking_in([Path(one) for one in _many(given.get("cards") or ())]), keeping() as answer:
        try:
            command(**values, **formats)
        except SystemExit as end:
            answer.exit_code = int(end.code or 0)
    return answer


def _are_three_sizes(inputs: Any) -> bool:
    return isinstance(inputs, (list, tuple)) and len(inputs) == 3 and all(type(size) is int for size in inputs)


def _in_hand(values: Mapping[str, Any]) -> bool:
    from torch import nn

    return any(isinstance(one, nn.Module) for value in values.values() for one in _many(value))


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple, range)) else [value]


def _texts(value: Any) -> list[Any]:
    """``{"width": [8, 16]}`` as ``width=8,16``, one of a list as a list of one; what is no text is left as it is."""
    if isinstance(value, Mapping):
        return [f"{key}={','.join(map(str, _many(one)))}" for key, one in value.items()]
    return [str(one) if isinstance(one, (int, float)) else one for one in _many(value)]


def _inputs(value: Any) -> Any:
    """Inputs as texts, or as they are."""
    if isinstance(value, str):
        return [value]
    return (
        list(value) if isinstance(value, Sequence) and value and all(isinstance(one, str) for one in value) else value
    )
