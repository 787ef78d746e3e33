"""E4 layers against group convolutions: the ratio of their costs over kernel size and group order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.show.style import BLUE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUANTITIES = {"params": "parameters", "macs": "MACs"}
_FEWEST_HALVINGS = 1.0


def ratio_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Two maps with the ratio in every cell; blue where E4 costs less, vermilion where it costs more.

    Args:
        name: of the files.
        rows: of one network, with the keys of ``e4profile.questions.formula.ratio_map_rows.ratio_rows``.

    Raises:
        SettingError: without rows.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import Rectangle

    if not rows:
        raise SettingError("no ratios to draw")
    most = max(_FEWEST_HALVINGS, *(abs(math.log2(row["ratio"])) for row in rows))
    colours = LinearSegmentedColormap.from_list("ratio", [BLUE, "#FFFFFF", VERMILION])
    shades = ScalarMappable(Normalize(-most, most), colours)
    figure = new_figure(1.75)
    for axes, (quantity, title) in zip(figure.subplots(1, 2, sharey=True), _QUANTITIES.items(), strict=True):
        _map(axes, [row for row in rows if row["quantity"] == quantity], shades)
        axes.set_title(f"{title}: E4 / G-CNN")
        axes.set_xlabel("kernel k")
        if quantity == "params":
            axes.set_ylabel("group order A")
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=BLUE, label="E4 costs less"),
        Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="#C8C8C8", linewidth=0.5, label="the same"),
        Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="black", linewidth=1.2, label="the network itself"),
    ]
    if any(row["ratio"] > 1 for row in rows):
        handles.insert(2, Rectangle((0, 0), 1, 1, facecolor=VERMILION, label="E4 costs more"))
    remarks = ["All E4 layers of the network by closed form, against group convolutions of the same widths, map sizes "
               "and strides. A: order of the point group (z2, C2, p4, p4m). Shades are logarithmic."]  # fmt: skip
    finish(figure, str(rows[0]["model"]), "its E4 layers against group convolutions", handles, remarks)
    return Plot(name, figure, list(rows))


def _map(axes: Axes, rows: Sequence[Mapping[str, Any]], shades: Any) -> None:
    from matplotlib.patches import Rectangle

    kernels = sorted({row["kernel"] for row in rows})
    orders = sorted({row["group_order"] for row in rows})
    for row in rows:
        x, y = kernels.index(row["kernel"]), orders.index(row["group_order"])
        colour = shades.to_rgba(math.log2(row["ratio"]))
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.6))
        if row["own"]:
            axes.add_patch(
                Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.2, zorder=3)
            )
        # the eye's own weights of red, green and blue decide which text is legible
        light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        text_colour = "black" if light > 0.55 else "white"
        axes.text(x, y, _ratio(row["ratio"]), ha="center", va="center", fontsize=5.5, color=text_colour)
    axes.set_xlim(-0.5, len(kernels) - 0.5)
    axes.set_ylim(-0.5, len(orders) - 0.5)
    axes.set_xticks(range(len(kernels)), [str(kernel) for kernel in kernels])
    axes.set_yticks(range(len(orders)), [str(order) for order in orders])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.0995 else f"{ratio:.3f}"
