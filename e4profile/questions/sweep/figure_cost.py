"""What a network costs against each of its settings, one setting varied at a time.

The paper's formula, the closed form and what runs, with the group-convolutional network beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.groups import as_group
from e4profile.questions.figures import Figure
from e4profile.show.style import E4_COLOUR, GCNN_COLOUR, ORANGE, Plot, around, finish, log_axis, new_figure, value_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from e4profile.subjects.subject import Subject

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


def cost_rows(card: Subject) -> list[dict[str, Any]]:
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


def _settings_of(card: Subject) -> list[str]:
    dynamic = card.accepts("layer") and card.argument("layer") == "e4"
    shared = "channels_per_slice" if card.argument("channels_per_slice") is not None else "slices"
    known = [*(["reduction", shared] if dynamic else []), "kernel", "width", "group"]
    return [name for name in known if name == shared or (card.accepts(name) and card.argument(name) is not None)]


def _values(card: Subject, setting: str) -> Sequence[Any]:
    own = card.argument(setting)
    if setting == "group":
        group = as_group(own)
        return [group.alias if as_group(name).order == group.order else name for name in _GROUPS]
    if setting == "width":
        return sorted({int(own * factor) for factor in _WIDTH_FACTORS if (own * factor).denominator == 1})
    known = _KERNELS if setting == "kernel" else _DOUBLED
    return sorted({*known, own} if isinstance(own, int) else known)


def _along(card: Subject, setting: str) -> list[dict[str, Any]]:
    if setting not in _settings_of(card):
        return []
    own = card.argument(setting)
    if setting == "group":
        own = as_group(own).alias
    rows = []
    for value in _values(card, setting):
        is_own = value == own or (setting == "slices" and own is None and value == 1)
        with suppress(SettingError):  # a value that the network refuses
            rows.append(_row(card.with_arguments({setting: value}), card, setting, value, is_own))
    return rows if len({row["value"] for row in rows}) > 1 else []


def _row(card: Subject, base: Subject, setting: str, value: Any, own: bool) -> dict[str, Any]:
    from e4profile.witnesses.counts.measure import measure

    found = measure(card, ("closed-form", "dispatch"))
    gcnn = _gcnn_count(card)
    return {
        "model": base.short_name,
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


def _gcnn_count(card: Subject) -> tuple[int, int] | None:
    """Parameters and MACs of the group-convolutional network of the same topology, by closed form."""
    from e4profile.questions.sweep.plans import gcnn
    from e4profile.witnesses.counts.closed_form import count_closed_form

    if not card.accepts("layer") or card.argument("layer") != "e4":
        return None
    baseline = gcnn(card)
    count = count_closed_form(baseline.build_to_count(), baseline.shape)
    return count.params, count.macs


TITLES = {
    "reduction": "reduction r",
    "slices": "slices s",
    "channels_per_slice": "channels\nper slice",
    "kernel": "kernel k",
    "width": "width c",
    "group": "order A",
}
_QUANTITIES = {"macs": "MACs", "params": "parameters"}


def cost_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """A column of panels per setting, MACs above parameters, all on logarithmic axes: a slope is an exponent.

    Args:
        name: of the files.
        rows: of one network, with the keys of ``cost_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no setting to draw costs against")
    panels = {setting: [row for row in rows if row["setting"] == setting] for setting in TITLES}
    panels = {setting: sorted(found, key=lambda row: row["value"]) for setting, found in panels.items() if found}
    figure = new_figure(2.75)
    grid = figure.subplots(len(_QUANTITIES), len(panels), sharey="row", squeeze=False)
    for line, (quantity, title) in zip(grid, _QUANTITIES.items(), strict=True):
        costs = [row[column] for row in rows for column in _columns(quantity) if row[column] is not None]
        scale, prefix = (1e6, "M") if min(costs) >= 1e5 else (1e3, "thousand")
        for axes, (setting, found) in zip(line, panels.items(), strict=True):
            _panel(axes, quantity, found, scale)
            value_ticks(axes, [row["value"] for row in found], doubled=setting != "kernel", most=3)
        log_axis(line[0], "y", *around([cost / scale for cost in costs], 1.2))
        line[0].set_ylabel(f"{prefix} {title}")
        for axes in line[1:]:
            axes.tick_params(axis="y", left=False)
    for axes, setting in zip(grid[-1], panels, strict=True):
        axes.set_xlabel(TITLES[setting])
    figure.align_ylabels(list(grid[:, 0]))
    handles = [
        Line2D([], [], color=ORANGE, linewidth=3, label="paper's formula"),
        Line2D([], [], color=E4_COLOUR, label="closed form"),
        Line2D([], [], **_MEASURED, label="measured (operators that run)"),
    ]
    if any(row["gcnn_macs"] is not None for row in rows):
        handles.append(Line2D([], [], color=GCNN_COLOUR, linestyle="--", label="G-CNN, same topology"))
    if not all(row["agrees"] for row in rows):
        handles.append(Line2D([], [], **_DISAGREES, label="measured, disagrees"))
    first = rows[0]
    own = [row for row in rows if row["own"] and row["setting"] != "group"]
    settings = ", ".join(f"{TITLES[row['setting']]}={row['value']}".replace("\n", " ") for row in own)
    remarks = [
        f"Filled: what is held while another setting is varied ({settings}; {first['group']}). All axes but "
        f"that of k are logarithmic.{' A is the order of the point group.' if 'group' in panels else ''}"
    ]
    finish(figure, f"{first['model']}, {first['group']}", "cost against its settings", handles, remarks)
    return Plot(name, figure, list(rows))


_MEASURED: dict[str, Any] = {
    "color": "black", "linestyle": "none", "marker": "o", "markersize": 3, "markerfacecolor": "white",
    "markeredgewidth": 0.6,
}  # fmt: skip
_DISAGREES: dict[str, Any] = {"color": GCNN_COLOUR, "linestyle": "none", "marker": "X", "markersize": 4}


def _columns(quantity: str) -> tuple[str, ...]:
    return (f"{quantity}_printed", f"{quantity}_closed", f"{quantity}_measured", f"gcnn_{quantity}")


def _panel(axes: Axes, quantity: str, rows: Sequence[Mapping[str, Any]], scale: float) -> None:
    printed, closed, measured, gcnn = _columns(quantity)
    values = [row["value"] for row in rows]
    # the closed form often lies on the paper's formula: a wide line under a thin one shows both
    styles: list[tuple[str, dict[str, Any]]] = [
        (printed, {"color": ORANGE, "linewidth": 3.0}),
        (closed, {"color": E4_COLOUR}),
        (gcnn, {"color": GCNN_COLOUR, "linestyle": "--"}),
    ]
    for column, style in styles:
        if all(row[column] is not None for row in rows):
            axes.plot(values, [row[column] / scale for row in rows], **style)
    for row in rows:
        style = {**(_MEASURED if row["agrees"] else _DISAGREES)}
        if row["own"] and row["agrees"]:
            style["markerfacecolor"] = "black"
        axes.plot([row["value"]], [row[measured] / scale], zorder=3, **style)


FIGURE = Figure(
    "cost",
    "cost against r, s, k, width and group order: the paper's formula, the closed form and what runs",
    cost_rows,
    cost_plot,
    default_models,
    place=1,
    each=True,
    only_cards="it varies a card's group, r, s, k and width in the closed form; for an argument of your "
    "builder see e4profile match --vary",
)
