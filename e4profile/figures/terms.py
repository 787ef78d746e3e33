"""Where the MACs go: those of a whole network by named term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from e4profile.cards import Card
from e4profile.conventions import MAC_KINDS
from e4profile.layers.base import layer_cost
from e4profile.layers.containers import trace
from e4profile.layers.group_conv import GroupConv2d
from e4profile.layers.lifting import LiftingConv2d

_DEFAULT_MODELS = (
    "p4-cnn", "e4net", "e4net-large", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18",
)  # fmt: skip


def default_models() -> tuple[str, ...]:
    """Networks of He et al. 2021, each E4 network after the G-CNN it is compared with."""
    return _DEFAULT_MODELS


def terms_rows(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """One row per network and named term with ``macs``, those of one image, and ``share`` of the network's.

    Raises:
        SettingError: for a network with a part that has no closed form.
    """
    rows = []
    for card in cards:
        found = macs_by_named_term(card)
        whole = sum(found.values())
        rows += [
            {"model": card.name, "term": term, "macs": macs, "share": macs / whole}
            for term, macs in found.items()
        ]
    return rows


def macs_by_named_term(card: Card) -> dict[str, int]:
    """MACs of one image by the layers' own names of their terms, in order of execution."""
    _, steps = trace(card.build("meta"), card.input_shape())
    found: Counter[str] = Counter()
    for step in steps:
        cost = layer_cost(step.form, step.input_shape)
        for term, macs in cost.macs.items():
            if cost.kinds[term] in MAC_KINDS and macs:
                found[_name(step.module, term)] += macs
    return dict(found)


def _name(module: object, term: str) -> str:
    if term == "convolution" and isinstance(module, LiftingConv2d):
        return "lifting"
    if term == "convolution" and isinstance(module, GroupConv2d):
        return "group convolution"
    return term
