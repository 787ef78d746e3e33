"""The user's cache folder: where measured peaks are kept between runs, if it can be written."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def cache_folder(variables: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """``$XDG_CACHE_HOME``, or the platform's own place for caches, with ``e4profile`` below.

    A relative ``XDG_CACHE_HOME`` is ignored, as the XDG base directory specification asks.
    """
    variables = os.environ if variables is None else variables
    named = variables.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named) / "e4profile"
    if platform == "win32":
        local = variables.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "e4profile" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "e4profile"
    return Path.home() / ".cache" / "e4profile"


def read_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The object in a file and an empty note; None with a note where there is none that can be used."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return (None, f"the cached file {path.name} cannot be used ({type(error).__name__}) and is measured anew")
    if not isinstance(found, dict):
        return None, f"the cached file {path.name} holds no JSON object and is measured anew"
    return found, ""


def write_json(path: Path, values: Mapping[str, Any]) -> str:
    """Write an object, whole or not at all; a note where the folder cannot be written, otherwise empty."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(values, stream, indent=1, sort_keys=True)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        return f"not cached: {path.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder"
    return ""
