"""The plan of a sweep: a pure list of settings, of which nothing is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from e4profile.errors import SettingError, positive
from e4profile.groups import FiniteGroup, GroupLike, as_group
from e4profile.networks.cards import OF_E4_LAYERS
from e4profile.questions.options import executed
from e4profile.records.jobs.setting import recorded, recorded_arguments
from e4profile.subjects.subject import Subject, resolve

DEFAULT_MODELS = ("e4net",)
DEFAULT_REDUCTIONS = (1, 2, 4)
DEFAULT_SLICES = (1, 2, 4)
DEFAULT_KERNELS = (3, 5, 7)

MOST = 10_000
"""The most settings of one sweep."""


@dataclass(frozen=True)
class Setting:
    """One network to measure.

    Attributes:
        model: the label in the table: the card's name, or the name with ``-gcnn`` for the baseline.
        subject: the network with every argument in place.
        group: the network's; C1 for a plain one.
        baseline: whether this is the G-CNN of the same topology.
    """

    model: str
    subject: Subject
    group: FiniteGroup
    baseline: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """What is built, as it is recorded: topology, input size and arguments, lists as text."""
        return recorded_arguments(self.subject)

    def describe(self) -> str:
        """The setting in a few words, for progress and notes."""
        arguments = self.subject.arguments
        names = ("group", "width", "kernel") if self.baseline else (
            "group", "width", "kernel", "reduction", "slices", "channels_per_slice"
        )  # fmt: skip
        return f"{self.model} " + " ".join(
            f"{n}={recorded(arguments[n])}" for n in names if arguments.get(n) is not None
        )


def make_plan(
    models: Sequence[str] = DEFAULT_MODELS,
    groups: Sequence[GroupLike] = (),
    *,
    reductions: Sequence[int] | None = None,
    slices: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    execution: str | None = None,
) -> tuple[Setting, ...]:
    """Every setting of the grid, each group's G-CNN baselines first.

    An axis that is not given takes the paper's values where the network has that axis. Whether a combination can
    exist (slices that divide the width, ...) shows when it is built.

    Raises:
        SettingError: for a value that no network takes (even kernels, zero), an axis that a model does not have, or an
            execution where no model has one.
        UnknownNameError: for an unknown group or model.
    """
    for name, values in (("reduction", reductions), ("slices", slices), ("kernel", kernels), ("width", widths)):
        if values is not None and not values:
            raise SettingError(f"{name}: give at least one value")
        for value in values or ():
            positive(**{name: value})
            if name == "kernel" and value % 2 == 0:
                raise SettingError(f"kernel (={value}) must be odd: the stencil is centred on a pixel")
    chosen = dict.fromkeys(map(as_group, groups)) or (None,)
    subjects = executed([resolve(name) for name in dict.fromkeys(models)], execution)
    baseline_and_e4 = 1 + len(reductions or DEFAULT_REDUCTIONS) * len(slices or DEFAULT_SLICES)
    per_size = [
        len(kernels or DEFAULT_KERNELS) * baseline_and_e4 if _dynamic(s) else len(kernels or [None]) for s in subjects
    ]
    if (total := sum(per_size) * len(widths or [None]) * len(chosen)) > MOST:
        raise SettingError(
            f"{total:,} settings; at most {MOST:,} are counted: give fewer values of -r, -s, -k, --width"
        )
    return tuple(
        setting
        for subject in subjects
        for group in chosen
        for setting in _grid(subject, group, reductions=reductions, slices=slices, kernels=kernels, widths=widths)
    )


def _grid(
    subject: Subject,
    group: FiniteGroup | None,
    *,
    reductions: Sequence[int] | None,
    slices: Sequence[int] | None,
    kernels: Sequence[int] | None,
    widths: Sequence[int] | None,
) -> Iterator[Setting]:
    base = subject if group is None else subject.with_arguments({"group": group})
    group = group or as_group(base.argument("group") or "z2")
    dynamic = _dynamic(base)
    axes: dict[str, Sequence[Any]] = {
        "width": _axis(base, "width", widths, None),
        "kernel": _axis(base, "kernel", kernels, DEFAULT_KERNELS if dynamic else None),
    }
    for kernel, width in product(axes["kernel"], axes["width"]):
        sized = base.with_arguments(_given(width=width, kernel=kernel))
        if not dynamic:
            for name, values in (("reduction", reductions), ("slices", slices)):
                if values is not None:
                    raise SettingError(f"{subject.name} has no E4 layers, so it takes no {name} (={values[0]})")
            yield Setting(subject.name, sized, group)
            continue
        yield Setting(f"{subject.name}-gcnn", gcnn(sized), group, baseline=True)
        for r, s in product(dict.fromkeys(reductions or DEFAULT_REDUCTIONS), dict.fromkeys(slices or DEFAULT_SLICES)):
            yield Setting(subject.name, sized.with_arguments({"reduction": r, "slices": s}), group)


def _dynamic(subject: Subject) -> bool:
    return subject.accepts("reduction") and subject.argument("layer") == "e4"


def _axis(subject: Subject, name: str, given: Sequence[Any] | None, default: Sequence[Any] | None) -> Sequence[Any]:
    if given is not None and not subject.accepts(name):
        raise SettingError(f"{subject.name} takes no {name} (={given[0]})")
    return list(dict.fromkeys(given or default or [subject.arguments.get(name)]))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def gcnn(subject: Subject) -> Subject:
    """The group-convolutional network of the same topology, without the arguments of E4 layers."""
    return subject.without_arguments(OF_E4_LAYERS).with_arguments({"layer": "group"})
