"""A training step against inference: equivariance learned by a loss, and equivariance built in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.numbers import si
from e4profile.show.style import BLUE, VERMILION, Plot, around, beside, finish, log_axis, named_rows, new_figure

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

_ROW_INCHES = 0.3
_OFFSET = 0.18
_STYLES = {"implicit": BLUE, "explicit": VERMILION}
_EMS = {"ratio": 4.4, "params": 10.6}


def default_models() -> tuple[str, ...]:
    """Every card of an implicitly equivariant network, by topology."""
    from e4profile.networks.cards import built_in_cards
    from e4profile.questions.published.implicit import NETWORKS, objective_name

    cards = [card for card in built_in_cards().values() if card.network in NETWORKS]
    cards.sort(key=lambda card: (NETWORKS.index(card.network), len(objective_name(card.arguments)), card.name))
    return tuple(card.name for card in cards)


def check_networks(cards: Sequence[Subject]) -> None:
    """Refuse a network that the figure does not show.

    Raises:
        SettingError: for a card whose network is not one of an implicitly equivariant study.
    """
    from e4profile.questions.published.implicit import NETWORKS

    for card in cards:
        if card.topology not in NETWORKS:
            known = default_models()[0]
            raise SettingError(
                f"the figure shows implicitly equivariant networks such as {known}; {card.name} is not one"
            )


def training_rows(cards: Sequence[Subject]) -> list[dict[str, Any]]:
    """Two rows per network: itself (``implicit``) and the G-CNN of the nearest number of parameters (``explicit``).

    ``inference_macs`` of one image; ``step_macs`` of one sample's training step, forward and backward: the image
    and its copy for the implicit network, the image alone for the G-CNN.

    Raises:
        SettingError: for a card whose network is not one of an implicitly equivariant study.
    """
    from e4profile.questions.published.implicit import comparison_row

    check_networks(cards)
    rows = []
    for card in cards:
        found = comparison_row(card, measured=False)
        for equivariance, prefix in (("implicit", ""), ("explicit", "gcnn_")):
            shown = ("group", "width", "params", "inference_macs", "step_macs")
            built = {key: found[prefix + key] for key in shown}
            row = {"model": card.short_name, "equivariance": equivariance, "objective": found["objective"], **built}
            rows.append({**row, "step_to_inference": built["step_macs"] / built["inference_macs"]})
    return rows


def training_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Per network two lines from inference to training step: itself, and the G-CNN of nearly as many parameters.

    Args:
        name: of the files.
        rows: with the keys of ``training_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise SettingError("no training steps to draw")
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = new_figure(0.5 + _ROW_INCHES * len(models))
    axes = figure.subplots()
    costs = [row[key] / 1e9 for row in rows for key in ("inference_macs", "step_macs")]
    log_axis(axes, "x", *around(costs, 1.5))
    for row in rows:
        colour = _STYLES[row["equivariance"]]
        place = models.index(row["model"]) + _OFFSET * (-1 if row["equivariance"] == "implicit" else 1)
        ends = (row["inference_macs"] / 1e9, row["step_macs"] / 1e9)
        axes.plot(ends, [place] * 2, color=colour, linewidth=0.8)
        axes.plot(ends[:1], [place], color=colour, marker="o", markersize=3, markerfacecolor="white", zorder=3)
        axes.plot(ends[1:], [place], color=colour, marker="D", markersize=3, zorder=3)
        beside(axes, _EMS["ratio"], place, f"{row['step_to_inference']:.2f}×", colour)
        beside(axes, _EMS["params"], place, si(row["params"]), colour)
    beside(axes, _EMS["ratio"], -0.85, "step", "black")
    beside(axes, _EMS["params"], -0.85, "params", "black")
    named_rows(axes, models)
    axes.set_xlabel("G MACs (log)")
    handles = [
        Line2D([], [], color=BLUE, label="implicit: equivariance loss"),
        Line2D([], [], color=VERMILION, label="explicit: G-CNN, nearest parameters"),
        Line2D([], [], color="black", linestyle="none", marker="o", markersize=3, markerfacecolor="white",
               label="inference, one image"),
        Line2D([], [], color="black", linestyle="none", marker="D", markersize=3, label="training step, one sample"),
    ]  # fmt: skip
    remarks = [
        "Training step: forward and backward, of an image and its transformed copy (implicit) or of the image alone "
        "(explicit); closed form. Step: training step over inference."
    ]
    finish(figure, "Equivariance, learned or built in", "training and inference", handles, remarks)
    return Plot(name, figure, list(rows))


FIGURE = Figure(
    "training",
    "training step against inference, equivariance learned (implicit) or built in (explicit)",
    training_rows,
    training_plot,
    default_models,
    place=9,
    only_cards="it sets the published implicitly equivariant networks against their G-CNNs; for the cost of "
    "your training see e4profile training",
)
