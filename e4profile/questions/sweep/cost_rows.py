"""What a network costs against each of its settings, one setting varied at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from e4profile.errors import SettingError
from e4profile.groups import as_group
from e4profile.layers.containers import trace
from e4profile.networks.cards import Card
from e4profile.questions.sweep.plans import gcnn
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.measure import measure

_DEFAULT_MODELS = ("e4net",)

SETTINGS = ("reduction", "slices", "channels_per_slice", "kernel", "width", "group")
"""The settings that are varied, in the order of the panels; ``slices`` or ``channels_per_slice``, as the card says."""

_DOUBLED = (1, 2, 4, 8, 16)
_KERNELS = (1, 3, 5, 7, 9)
_WIDTH_FACTORS = (Fraction(1, 2), Fraction(1), Fraction(2))
_GROUPS = ("z2", "C2", "p4", "p4m")


def default_models() -> tuple[str, ...]:
    """The E4-Net as released."""
    return _DEFAULT_MODELS


def cost_rows(card: Card) -> list[dict[str, Any]]:
    """One row per setting and value: the paper's formula, the closed form and what runs, for one image.

    Each row holds ``setting``, ``value`` (the group's order for ``group``), whether it is the card's own
    (``own``), the card's model and group, and for ``params`` and ``macs`` the columns ``_printed``, ``_closed``,
    ``_measured``; ``agrees`` where closed form and dispatch counter do in every layer; ``gcnn_params`` and
    ``gcnn_macs`` of the group-convolutional network of the same topology, None where there is none. A value that
    the network refuses is left out.

    Raises:
        SettingError: for a network without two values of any setting.
    """
    rows = [row for setting in SETTINGS for row in _along(card, setting)]
    if not rows:
        raise SettingError(f"{card.name} has none of the settings {', '.join(SETTINGS)} to vary")
    return rows


def _along(card: Card, setting: str) -> list[dict[str, Any]]:
    if setting not in _settings_of(card):
        return []
    rows = [_row(varied, card, setting, value, own) for value, own, varied in _possible(card, setting)]
    return rows if len({row["value"] for row in rows}) > 1 else []


def _settings_of(card: Card) -> list[str]:
    dynamic = card.accepts("layer") and card.argument("layer") == "e4"
    shared = "channels_per_slice" if card.argument("channels_per_slice") is not None else "slices"
    known = [*(["reduction", shared] if dynamic else []), "kernel", "width", "group"]
    return [name for name in known if name == shared or (card.accepts(name) and card.argument(name) is not None)]


def _values(card: Card, setting: str) -> Sequence[Any]:
    own = card.argument(setting)
    if setting == "group":
        group = as_group(own)
        return [group.alias if as_group(name).order == group.order else name for name in _GROUPS]
    if setting == "width":
        return sorted({int(own * factor) for factor in _WIDTH_FACTORS if (own * factor).denominator == 1})
    known = _KERNELS if setting == "kernel" else _DOUBLED
    return sorted({*known, own} if isinstance(own, int) else known)


def _possible(card: Card, setting: str) -> Iterator[tuple[Any, bool, Card]]:
    own = card.argument(setting)
    if setting == "group":
        own = as_group(own).alias
    for value in _values(card, setting):
        varied = card.with_arguments({setting: value})
        try:
            trace(varied.build("meta"), varied.input_shape())
        except SettingError:
            continue
        yield value, value == own or (setting == "slices" and own is None and value == 1), varied


def _row(card: Card, base: Card, setting: str, value: Any, own: bool) -> dict[str, Any]:
    found = measure(card, ("closed-form", "dispatch"))
    gcnn = _gcnn_count(card)
    return {
        "model": base.name,
        "group": as_group(card.argument("group")).alias if card.accepts("group") else None,
        "setting": setting,
        "value": as_group(value).order if setting == "group" else value,
        "own": own,
        "params_printed": found.printed_params,
        "params_closed": found.closed.params,
        "params_measured": found.dispatch.params,
        "macs_printed": found.printed_macs,
        "macs_closed": found.closed.macs,
        "macs_measured": found.dispatch.macs,
        "agrees": found.agrees,
        "gcnn_params": None if gcnn is None else gcnn[0],
        "gcnn_macs": None if gcnn is None else gcnn[1],
    }


def _gcnn_count(card: Card) -> tuple[int, int] | None:
    """Parameters and MACs of the group-convolutional network of the same topology, by closed form."""
    if not card.accepts("layer") or card.argument("layer") != "e4":
        return None
    baseline = gcnn(card)
    count = count_closed_form(baseline.build("meta"), baseline.input_shape())
    return count.params, count.macs
