"""The papers whose networks and figures the cards carry, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from e4profile.networks.cards import Card

CITED = {
    "Cohen & Welling 2016": "cohen2016group",
    "He, Zhang, Ren & Sun 2016": "he2016deep",
    "He et al. 2021": "he2021efficient",
    "Khetan et al. 2021": "khetan2021implicit",
    "Equivariant Vision Models (Klee)": "klee_equivision",
    "Lengyel & van Gemert 2021": "lengyel2021exploiting",
    "Romero et al. 2020": "romero2020attentive",
    "Romero & Cordonnier 2021": "romero2021group",
}
"""The key of the entry by the words that a card's ``source`` cites it with."""

_ENTRY = re.compile(r"^@\w+\{(\w+),\n.*?^\}$", re.MULTILINE | re.DOTALL)


@lru_cache(maxsize=1)
def bibliography() -> dict[str, str]:
    """Every entry as BibTeX, by its key."""
    text = (files("e4profile.networks") / "papers.bib").read_text(encoding="utf-8")
    return {entry[1]: entry[0] for entry in _ENTRY.finditer(text)}


def cited_by(card: Card) -> list[str]:
    """The keys of what a card cites, of its network and of its published rows, in the order of the citations."""
    sources = "; ".join([card.source, *(row.source for row in card.published)])
    found = {sources.index(words): key for words, key in CITED.items() if words in sources}
    return [found[place] for place in sorted(found)]


def bibtex(keys: Iterable[str]) -> str:
    """Entries as text, each once."""
    return "\n\n".join(bibliography()[key] for key in dict.fromkeys(keys)) + "\n"
