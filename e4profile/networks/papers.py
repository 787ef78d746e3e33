"""The papers whose networks and figures the cards carry, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from e4profile.networks.cards import Card

_ENTRY = re.compile(r"^cited as: ([^\n]+)\n(@\w+\{(\w+),\n.*?^\}$)", re.MULTILINE | re.DOTALL)


@lru_cache(maxsize=1)
def _entries() -> list[tuple[str, ...]]:
    """The words that a card's ``source`` cites an entry with, the entry, and its key."""
    text = (files("e4profile.networks") / "papers.bib").read_text(encoding="utf-8")
    return [found.groups() for found in _ENTRY.finditer(text)]


def bibliography() -> dict[str, str]:
    """Every entry as BibTeX, by its key."""
    return {key: entry for _, entry, key in _entries()}


def cited_as() -> dict[str, str]:
    """The key of the entry by the words that a card's ``source`` cites it with."""
    return {words: key for words, _, key in _entries()}


def cited_by(card: Card) -> list[str]:
    """The keys of what a card cites, of its network and of its published rows, in the order of the citations."""
    sources = "; ".join([card.source, *(row.source for row in card.published)])
    found = {sources.index(words): key for words, key in cited_as().items() if words in sources}
    return [found[place] for place in sorted(found)]


def bibtex(keys: Iterable[str]) -> str:
    """Entries as text, each once."""
    return "\n\n".join(bibliography()[key] for key in dict.fromkeys(keys)) + "\n"
