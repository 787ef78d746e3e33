"""Values as people write them on a command line: TOML, and Python's own words for nothing, true and false."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORDS = {"none": None, "null": None, "true": True, "false": False}


def plain_value(text: str) -> Any:
    """A value from text: TOML; none and null as None, true and false in any case; anything else as the text itself.

    The word itself is written in quotes: ``'"None"'`` is the text None.

    Raises:
        RecursionError: for lists nested without end.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if "\n" in text:
        # a second line would be a second key, not a part of the value
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
