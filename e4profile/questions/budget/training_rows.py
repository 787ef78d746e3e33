"""A training step against inference: equivariance learned by a loss, and equivariance built in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.networks.cards import Card, all_cards
from e4profile.questions.table.implicit_rows import NETWORKS, comparison_row, objective_name


def default_models() -> tuple[str, ...]:
    """Every card of an implicitly equivariant network, by topology."""
    cards = [card for card in all_cards().values() if card.network in NETWORKS]
    cards.sort(key=lambda card: (NETWORKS.index(card.network), len(objective_name(card.arguments)), card.name))
    return tuple(card.name for card in cards)


def training_rows(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Two rows per network: itself (``implicit``) and the G-CNN of the nearest number of parameters (``explicit``).

    ``inference_macs`` of one image; ``step_macs`` of one sample's training step, forward and backward: the image
    and its copy for the implicit network, the image alone for the G-CNN.

    Raises:
        SettingError: for a card whose network is not one of an implicitly equivariant study.
    """
    rows = []
    for card in cards:
        if card.network not in NETWORKS:
            raise SettingError(f"{card.name} is no implicitly equivariant network, as {default_models()[0]} is one")
        found = comparison_row(card)
        for equivariance, prefix in (("implicit", ""), ("explicit", "gcnn_")):
            rows.append(
                {
                    "model": card.name,
                    "equivariance": equivariance,
                    "objective": found["objective"],
                    "group": found["group"] if equivariance == "implicit" else found["gcnn_group"],
                    "width": found[f"{prefix}width"],
                    "params": found[f"{prefix}params"],
                    "inference_macs": found[f"{prefix}inference_macs"],
                    "step_macs": found[f"{prefix}step_macs"],
                    "step_to_inference": found[f"{prefix}step_macs"] / found[f"{prefix}inference_macs"],
                }
            )
    return rows
