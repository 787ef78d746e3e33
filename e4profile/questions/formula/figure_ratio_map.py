"""What the E4 layers of a network cost against group convolutions in their place, over kernel and group order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.questions.figures import Figure
from e4profile.show.style import BLUE, VERMILION, Plot, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from e4profile.layers.containers import Step
    from e4profile.layers.e4 import E4Conv2d
    from e4profile.layers.group_conv import GroupConv2d
    from e4profile.subjects.subject import Subject

_DEFAULT_MODELS = ("e4net", "p4m-e4r18")

KERNELS = (3, 5, 7, 9, 11)
ORDERS = (1, 2, 4, 8)
"""The orders of the groups that are exact on the pixel grid: z2; C2, D1; p4, D2; p4m."""

QUANTITIES = {"params": "parameters", "macs": "MACs"}
_FEWEST_HALVINGS = 1.0


def default_models() -> tuple[str, ...]:
    """The smallest and the largest E4 network as released."""
    return _DEFAULT_MODELS


def ratio_rows(card: Subject) -> list[dict[str, Any]]:
    """One row per quantity, kernel and group order: the E4 layers, group convolutions of the same shapes, the ratio.

    Widths in fields, reduction, slices and map sizes are the network's own; only k and A vary. Closed form alone,
    for one image; the counts are exact integers.

    Raises:
        SettingError: for a network without E4 layers.
    """
    import numpy as np

    from e4profile.layers.containers import trace
    from e4profile.layers.e4 import E4Conv2d
    from e4profile.layers.group_conv import GroupConv2d

    _, steps = trace(card.build("meta"), card.shape)
    layers = [(step, step.module) for step in steps if isinstance(step.module, E4Conv2d)]
    if not layers:
        raise SettingError(f"{card.name} has no E4 layers to set against group convolutions")
    kernels = np.array(KERNELS, dtype=np.int64)[:, None]
    orders = np.array(ORDERS, dtype=np.int64)[None, :]
    grid = np.zeros((len(KERNELS), len(ORDERS)), dtype=np.int64)
    own = (layers[0][1].kernel, layers[0][1].group.order)
    rows: list[dict[str, Any]] = []
    for quantity in QUANTITIES:
        dynamic = sum((_many(E4Conv2d, quantity, _e4_values(*one, kernels, orders)) for one in layers), grid)
        static = sum((_many(GroupConv2d, quantity, _gcnn_values(*one, kernels, orders)) for one in layers), grid)
        rows += [
            {
                "model": card.short_name,
                "quantity": quantity,
                "kernel": kernel,
                "group_order": order,
                "e4": int(dynamic[i, j]),
                "gcnn": int(static[i, j]),
                "ratio": int(dynamic[i, j]) / int(static[i, j]),
                "own": (kernel, order) == own,
            }
            for i, kernel in enumerate(KERNELS)
            for j, order in enumerate(ORDERS)
        ]
    return rows


def _many(layer: type[E4Conv2d] | type[GroupConv2d], quantity: str, values: dict[Any, Any]) -> Any:
    from e4profile.layers.terms import many, total
    from e4profile.questions.formula.executions import executed

    return many(total(getattr(executed(layer, "bank"), quantity)), values)


def _e4_values(step: Step, layer: E4Conv2d, kernels: Any, orders: Any) -> dict[Any, Any]:
    from e4profile.symbols import A_K, A_V, A, affine_pairs, k

    encoder, kernel = layer.concatenate in ("both", "encoder"), layer.concatenate in ("both", "kernel")
    return {
        **step.dimensions,
        A: orders,
        k: kernels,
        A_V: orders if encoder else 1,
        A_K: orders if kernel else 1,
        affine_pairs: orders if layer.squeeze_affine == "channel" else 1,
    }


def _gcnn_values(step: Step, layer: E4Conv2d, kernels: Any, orders: Any) -> dict[Any, Any]:
    """A convolution padded to the size of the E4 layer's own output, with true strides."""
    from e4profile.symbols import h_conv, h_out, has_bias, w_conv, w_out

    values = _e4_values(step, layer, kernels, orders)
    return {**values, h_conv: values[h_out], w_conv: values[w_out], has_bias: 0}


def ratio_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Two maps with the ratio in every cell; blue where E4 costs less, vermilion where it costs more.

    Args:
        name: of the files.
        rows: of one network, with the keys of ``ratio_rows``.

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
    for axes, (quantity, title) in zip(figure.subplots(1, 2, sharey=True), QUANTITIES.items(), strict=True):
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
        axes.text(x, y, _ratio(row["ratio"]), ha="center", va="center", color=text_colour)
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


FIGURE = Figure(
    "ratio-map",
    "E4 layers against group convolutions: ratio of parameters and MACs over (k, A)",
    ratio_rows,
    ratio_plot,
    default_models,
    place=2,
    each=True,
    only_cards="it evaluates closed forms of E4 layers over (k, A), which needs a card's topology",
)
