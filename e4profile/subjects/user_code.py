"""Finding a model in somebody's package or file: ``package.module:build`` and ``path/to/file.py:build``.

Importing a file runs it.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from e4profile.errors import SettingError, UnknownNameError, is_special
from e4profile.subjects.guest import STOPPED, Guest, UserCodeError, first_line, text_of
from e4profile.subjects.refusals import check_module

_INSTALLED = {"site-packages", "dist-packages"}
_OURS = Path(__file__).resolve().parents[1]


def load(reference: str, guest: Guest) -> Any:
    """The object that a reference names; its module is imported, which runs it.

    The folder of a file, or the working directory for a package, can be imported from meanwhile.

    Raises:
        SettingError: for a file that does not exist, or a reference without a name behind the colon.
        UserCodeError: for a module that does not import; ``details`` holds its own traceback.
        UnknownNameError: for a name that the module does not have, with the nearest names.
    """
    source, _, attribute = reference.rpartition(":")
    if not source or not attribute:
        raise SettingError(
            f"{reference!r} must name a builder behind a colon, for example {source or 'net.py'}:{attribute or 'build'}"
        )
    guest.folder = str(Path(source).resolve().parent if source.endswith(".py") else Path.cwd())
    with guest.running():
        try:
            module = _import_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
        except (SettingError, *STOPPED):
            raise
        except BaseException as error:
            hint = _as_package(source, attribute) if "relative import" in text_of(error) else ""
            raise UserCodeError(f"{source} does not import: {first_line(error)}{hint}", error) from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = _builders(found)
            if not known:
                holder = attribute.rpartition(f".{part}")[0] or source
                raise SettingError(f"unknown name in {source} {attribute!r}: {holder} holds no {part}")
            raise UnknownNameError(f"name in {source}", attribute, known)
        found = getattr(found, part)
    return found


def _builders(holder: Any) -> list[str]:
    """The names in a module or class that could build a network: its own before what it imported."""
    found = {name: value for name, value in getattr(holder, "__dict__", {}).items() if not name.startswith("_")}
    called = [name for name, value in found.items() if callable(value)]
    place = getattr(holder, "__name__", None)
    return [name for name in called if getattr(found[name], "__module__", None) == place] or called


def code_digest(reference: str, guest: Guest) -> str:
    """A digest of the user's files that a builder was imported from: its own, and what it imported beside it.

    What a function imports when it is called counts too. What is installed is left out. The digest is taken once for a
    guest, so that what is imported later changes nothing.
    """
    if not guest.digest:
        source = reference.rpartition(":")[0]
        top = sys.modules.get(source.partition(".")[0])
        place = [*getattr(top, "__path__", []), getattr(top, "__file__", None) or ""][0]
        root = Path(source if source.endswith(".py") else place).resolve().parent
        if _INSTALLED & set(root.parts):
            # of an installed package itself, and of none of its neighbours
            root = Path(place).resolve()
        files = {_resolved(one) for module in list(sys.modules.values())
                 if isinstance(one := getattr(module, "__file__", None), str) and one.endswith(".py")}  # fmt: skip
        ours = [one for one in files if one.is_relative_to(root)]
        while ours and not _INSTALLED & set(root.parts):
            ours = [one for file in ours for one in _imported_by(file, root) if one not in files]
            files.update(ours)
        digest = hashlib.sha256()
        for file in sorted(one for one in files if one.is_relative_to(root)):
            below = file.relative_to(root)
            if not (_INSTALLED & set(below.parts) or file.is_relative_to(_OURS)) and file.is_file():
                digest.update(below.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
        guest.digest = digest.hexdigest()[:16]
    return guest.digest


@cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def _imported_by(file: Path, root: Path) -> set[Path]:
    """The files below a folder that a file has import statements of, wherever they stand in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            level, module = getattr(node, "level", 0), getattr(node, "module", None) or ""
            base = file.parents[level - 1] if 0 < level <= len(file.parents) else root
            for one in node.names:
                parts = [part for part in f"{module}.{one.name}".split(".") if part]
                for place in (base.joinpath(*parts[:end]) for end in range(len(parts) + 1)):
                    found |= {place.parent / f"{place.name}.py", place / "__init__.py"}
    return {one.resolve() for one in found if one.is_file() and one.resolve().is_relative_to(root)}


def _as_package(source: str, attribute: str) -> str:
    """How a file that imports its neighbours by dots is named: as a part of its package."""
    file = Path(source).resolve()
    root = file.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    if root == file.parent:
        root = root.parent
    dotted = ".".join(file.relative_to(root).with_suffix("").parts)
    where = "" if root == Path.cwd() else f", in {root}"
    return f"; a file with relative imports is named as part of its package: {dotted}:{attribute}{where}"


def _import_file(path: Path) -> Any:
    if is_special(path):
        raise SettingError(f"{path}: is not an ordinary file")
    if not path.is_file():
        near = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, near, cutoff=0.0, n=1)
        raise SettingError(f"{path}: no such file{f'; did you mean {path.parent / near[0]}?' if near else ''}")
    # a name of its own: a file called random.py must not become the random of everybody else
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"e4profile_user_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def build_model(reference: str, builder: Any, arguments: Mapping[str, Any], guest: Guest) -> nn.Module:
    """The module that a builder gives: a module itself, its class, or a callable that returns one.

    Raises:
        SettingError: for arguments to a finished module, missing arguments, or something that is no module.
        UnknownNameError: for an argument that the builder does not take.
        UserCodeError: when the builder raises.
    """
    if isinstance(builder, nn.Module):
        if arguments:
            raise SettingError(f"{reference} is a finished module: it takes no arguments ({', '.join(arguments)})")
        return builder
    if not callable(builder):
        raise SettingError(
            f"{reference} is of type {type(builder).__name__}: neither a torch.nn.Module nor a callable that builds one"
        )
    _check_arguments(reference, builder, arguments)
    with guest.running():
        torch.manual_seed(0)
        try:
            model = builder(**arguments)
        except STOPPED:
            raise
        except BaseException as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise UserCodeError(f"{reference} cannot build with ({given}): {first_line(error)}", error) from error
    if not isinstance(model, nn.Module):
        raise SettingError(f"{reference} returned {type(model).__name__}, not a torch.nn.Module")
    check_module(reference, model)
    return model


def _check_arguments(reference: str, builder: Any, arguments: Mapping[str, Any]) -> None:
    try:
        parameters = signature(builder).parameters
    except (TypeError, ValueError):
        return  # a builtin without a signature says itself what it misses
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())
    named = {
        name: one
        for name, one in parameters.items()
        if one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    for name in arguments:
        if name not in named and not takes_any:
            if not named:
                raise SettingError(f"{reference} takes no arguments, so not {name}")
            raise UnknownNameError(f"argument of {reference}", name, named)
    missing = [name for name, one in named.items() if one.default is Parameter.empty and name not in arguments]
    if missing:
        wanted = " ".join(f"--set {name}=VALUE" for name in missing)
        raise SettingError(f"{reference} needs {', '.join(missing)}: give {wanted}")


class OwnLoss:
    """A user-defined function from a network's output to the number that backward starts from.

    Raises:
        SettingError: for a reference that is no function.
        Whatever ``load`` raises.
    """

    def __init__(self, reference: str) -> None:
        self.__name__ = reference
        self.guest = Guest(reference)
        self._function = load(reference, self.guest)
        if isinstance(self._function, type) or not callable(self._function):
            kind = type(self._function).__name__
            raise SettingError(f"--loss {reference} is a {kind}: name a function of the output")

    def __call__(self, output: Any) -> Any:
        """The loss.

        Raises:
            UserCodeError: for what the function raises.
        """
        try:
            return self._function(output)
        except STOPPED:
            raise
        except BaseException as error:
            text = f"--loss {self.__name__} cannot take the output: {first_line(error)}"
            raise UserCodeError(text, error) from error
