"""The plan of a sweep: a pure list of settings, and of the combinations that cannot exist with their reasons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from e4profile.errors import SettingError, positive
from e4profile.groups import as_group
from e4profile.networks.cards import Card, find_card

DEFAULT_MODELS = ("e4net",)
DEFAULT_REDUCTIONS = (1, 2, 4)
DEFAULT_SLICES = (1, 2, 4)
DEFAULT_KERNELS = (3, 5, 7)


@dataclass(frozen=True)
class Setting:
    """One network to measure.

    Attributes:
        model: the label in the table: the card's name, or the name with ``-gcnn`` for the baseline.
        card: the card with every argument in place.
        baseline: whether this is the G-CNN of the same topology.
    """

    model: str
    card: Card
    baseline: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """What is built, as it is recorded: topology, input size and arguments, lists as text."""
        given = {name: value for name, value in self.card.arguments.items() if value is not None}
        return {
            "network": self.card.network,
            "input": "x".join(map(str, self.card.input)),
            **{name: v if isinstance(v, (str, int, float)) else json.dumps(v) for name, v in given.items()},
        }

    @property
    def group(self) -> str:
        """The group's name; a topology that takes no group is a plain network."""
        return as_group(self.card.argument("group") or "z2").alias

    def describe(self) -> str:
        """The setting in a few words, for progress and notes."""
        arguments = self.card.arguments
        names = ("group", "width", "kernel") if self.baseline else (
            "group", "width", "kernel", "reduction", "slices", "channels_per_slice"
        )  # fmt: skip
        return f"{self.model} " + " ".join(f"{n}={arguments[n]}" for n in names if arguments.get(n) is not None)


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot exist, and why."""

    setting: Setting
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a sweep will measure, and what it leaves out."""

    settings: tuple[Setting, ...]
    skipped: tuple[Skipped, ...] = ()


def make_plan(
    models: Sequence[str] = DEFAULT_MODELS,
    groups: Sequence[str] = (),
    *,
    reductions: Sequence[int] | None = None,
    slices: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> Plan:
    """Every setting of the grid, each group's G-CNN baselines first.

    An axis that is not given takes the paper's values where the network has that axis. A combination that
    cannot exist (slices that do not divide the width, ...) is left out with its reason.

    Raises:
        SettingError: for a value that no network takes (even kernels, zero), an axis that a model does not
            have, or when no combination is left.
        UnknownNameError: for an unknown group or model.
    """
    for name, values in (("reduction", reductions), ("slices", slices), ("kernel", kernels), ("width", widths)):
        if values is not None and not values:
            raise SettingError(f"{name}: give at least one value")
        for value in values or ():
            positive(**{name: value})
            if name == "kernel" and value % 2 == 0:
                raise SettingError(f"kernel (={value}) must be odd: the stencil is centred on a pixel")
    settings: list[Setting] = []
    skipped: list[Skipped] = []
    for name in dict.fromkeys(models):
        card = find_card(name)
        for group in dict.fromkeys(as_group(g).alias for g in groups) if groups else (None,):
            for setting in _grid(card, group, reductions=reductions, slices=slices, kernels=kernels, widths=widths):
                reason = _impossible(setting)
                if reason is None:
                    settings.append(setting)
                else:
                    skipped.append(Skipped(setting, reason))
    if not any(not setting.baseline for setting in settings):
        reasons = dict.fromkeys(skip.reason for skip in skipped)
        raise SettingError(f"no setting of this sweep can exist: {'; '.join(reasons)}")
    return Plan(tuple(settings), tuple(skipped))


def _grid(
    card: Card,
    group: str | None,
    *,
    reductions: Sequence[int] | None,
    slices: Sequence[int] | None,
    kernels: Sequence[int] | None,
    widths: Sequence[int] | None,
) -> Iterator[Setting]:
    base = card if group is None else card.with_arguments({"group": group})
    dynamic = base.accepts("reduction") and base.argument("layer") == "e4"
    axes: dict[str, Sequence[Any]] = {
        "width": _axis(base, "width", widths, None),
        "kernel": _axis(base, "kernel", kernels, DEFAULT_KERNELS if dynamic else None),
    }
    for kernel, width in product(axes["kernel"], axes["width"]):
        sized = base.with_arguments(_given(width=width, kernel=kernel))
        if not dynamic:
            for name, values in (("reduction", reductions), ("slices", slices)):
                if values is not None:
                    raise SettingError(f"{card.name} has no E4 layers, so it takes no {name} (={values[0]})")
            yield Setting(card.name, sized)
            continue
        yield Setting(f"{card.name}-gcnn", gcnn(sized), baseline=True)
        for r, s in product(dict.fromkeys(reductions or DEFAULT_REDUCTIONS), dict.fromkeys(slices or DEFAULT_SLICES)):
            yield Setting(card.name, sized.with_arguments({"reduction": r, "slices": s}))


def _axis(card: Card, name: str, given: Sequence[Any] | None, default: Sequence[Any] | None) -> Sequence[Any]:
    if given is not None and not card.accepts(name):
        raise SettingError(f"{card.name} takes no {name} (={given[0]})")
    return list(dict.fromkeys(given or default or [card.arguments.get(name)]))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def gcnn(card: Card) -> Card:
    """The group-convolutional network of the same topology: the arguments of E4 layers say nothing there."""
    e4_only = ("reduction", "slices", "channels_per_slice", "concatenate", "encoder_norm", "squeeze_affine")
    kept = {name: value for name, value in card.arguments.items() if name not in e4_only}
    return replace(card, arguments={**kept, "layer": "group"})


def _impossible(setting: Setting) -> str | None:
    from e4profile.layers import trace

    try:
        trace(setting.card.build("meta"), setting.card.input_shape())
    except SettingError as error:
        return str(error)
    return None
