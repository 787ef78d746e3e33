"""The rows of a sweep as figures need them: typed, gathered by model and group, thinned to a readable few."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from e4profile.errors import SettingError

PAPER_DEFAULTS: dict[str, int] = {"width": 16, "kernel": 5, "reduction": 1, "slices": 2}
"""He et al. 2021, section 5.1: the setting around which the figures vary one value at a time."""

SYMBOLS: dict[str, str] = {"width": "c", "kernel": "k", "reduction": "r", "slices": "s"}
BASELINE_SUFFIX = "-gcnn"


@dataclass(frozen=True)
class SweepRow:
    """One setting of one model, or its G-CNN baseline (no reduction, no slices). Costs are per image."""

    model: str
    group: str
    width: int | None
    kernel: int | None
    reduction: int | None
    slices: int | None
    params_formula: int | None
    params_measured: int | None
    params_printed_form: int | None
    macs_formula: int | None
    macs_measured: int | None
    macs_printed_form: int | None
    fvcore: int | None
    thop: int | None
    agrees: bool
    params_ratio: float | None
    macs_ratio: float | None
    terms: Mapping[str, int]

    @property
    def is_baseline(self) -> bool:
        """Whether this is the G-CNN of a model's topology."""
        return self.model.endswith(BASELINE_SUFFIX) and self.reduction is None and self.slices is None

    def setting(self, axis: str) -> int | None:
        """The value on one of the axes ``width``, ``kernel``, ``reduction``, ``slices``."""
        value = getattr(self, axis)
        assert value is None or isinstance(value, int)
        return value

    def label(self, axes: Iterable[str]) -> str:
        """The values on some axes: ``k=5 r=1 s=2``; an axis without a value is left out, the model if all are."""
        known = [axis for axis in axes if self.setting(axis) is not None]
        return " ".join(f"{SYMBOLS[axis]}={self.setting(axis)}" for axis in known) or self.model


@dataclass(frozen=True)
class Study:
    """All settings of one model under one group, with the baselines of the same group."""

    model: str
    group: str
    rows: tuple[SweepRow, ...]
    baselines: tuple[SweepRow, ...]

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes on which the settings differ."""
        return tuple(axis for axis in SYMBOLS if len({row.setting(axis) for row in self.rows}) > 1)

    @property
    def label_axes(self) -> tuple[str, ...]:
        """The axes that a setting's label names: k, r, s, and c when several widths are compared."""
        return tuple(axis for axis in SYMBOLS if axis != "width" or axis in self.varying)

    @property
    def title(self) -> str:
        """``e4net, p4, width 16``."""
        width = self.rows[0].width
        one_width = width is not None and "width" not in self.varying
        return f"{self.model}, {self.group}" + (f", width {width}" if one_width else "")

    @property
    def base(self) -> SweepRow:
        """The setting closest to the paper's: its value on each axis that has it, else the first value."""

        def held(axis: str) -> int | None:
            values = [row.setting(axis) for row in self.rows]
            return PAPER_DEFAULTS[axis] if PAPER_DEFAULTS[axis] in values else values[0]

        target = {axis: held(axis) for axis in SYMBOLS}
        return max(self.rows, key=lambda row: sum(row.setting(axis) == target[axis] for axis in SYMBOLS))

    def along(self, axis: str) -> tuple[SweepRow, ...]:
        """The settings that differ from the base on no other axis, in increasing order."""
        base = self.base
        others = [other for other in SYMBOLS if other != axis]
        chosen = [row for row in self.rows if all(row.setting(o) == base.setting(o) for o in others)]
        return tuple(sorted(chosen, key=lambda row: row.setting(axis) or 0))

    def at_most(self, limit: int) -> tuple[SweepRow, ...]:
        """All settings when they are few, else those that differ from the base on at most one axis."""
        if len(self.rows) <= limit:
            return self.rows
        near = {id(row) for axis in SYMBOLS for row in self.along(axis)}
        return tuple(row for row in self.rows if id(row) in near)

    def baseline(self, width: int | None, kernel: int | None) -> SweepRow | None:
        """The G-CNN with that width and kernel."""
        return next((row for row in self.baselines if (row.width, row.kernel) == (width, kernel)), None)


def studies(rows: Sequence[Mapping[str, object]]) -> list[Study]:
    """Gather rows by model and group, in the order in which they first appear.

    Raises:
        SettingError: for a row without one of the columns, or with a count that is not a whole number.
    """
    read = [_row(row) for row in rows]
    keys = dict.fromkeys((row.model, row.group) for row in read if not row.is_baseline)

    def named(model: str, group: str) -> tuple[SweepRow, ...]:
        return tuple(row for row in read if (row.model, row.group) == (model, group))

    return [Study(*key, named(*key), named(key[0] + BASELINE_SUFFIX, key[1])) for key in keys]


def _row(row: Mapping[str, object]) -> SweepRow:
    required = [name for name in SweepRow.__dataclass_fields__ if name != "params_printed_form"]
    missing = [name for name in required if name not in row]
    if missing:
        raise SettingError(f"a sweep row has no {', '.join(missing)}")
    terms = row["terms"]
    if not isinstance(terms, Mapping):
        raise SettingError(f"terms (={terms!r}) must map a named term to its MACs")

    def count(name: str) -> int | None:
        return _whole(name, row.get(name))

    return SweepRow(
        model=str(row["model"]),
        group=str(row["group"]),
        width=count("width"),
        kernel=count("kernel"),
        reduction=count("reduction"),
        slices=count("slices"),
        params_formula=count("params_formula"),
        params_measured=count("params_measured"),
        params_printed_form=count("params_printed_form"),
        macs_formula=count("macs_formula"),
        macs_measured=count("macs_measured"),
        macs_printed_form=count("macs_printed_form"),
        fvcore=count("fvcore"),
        thop=count("thop"),
        agrees=bool(row["agrees"]),
        params_ratio=_real("params_ratio", row["params_ratio"]),
        macs_ratio=_real("macs_ratio", row["macs_ratio"]),
        terms={str(name): _whole(str(name), value) or 0 for name, value in terms.items()},
    )


def _real(name: str, value: object) -> float | None:
    # A data frame turns the missing value of a number column into NaN.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SettingError(f"{name} (={value!r}) must be a number") from None


def _whole(name: str, value: object) -> int | None:
    if isinstance(value, int):
        return value
    real = _real(name, value)
    if real is None:
        return None
    if not real.is_integer():
        raise SettingError(f"{name} (={value!r}) must be a whole number")
    return int(real)
