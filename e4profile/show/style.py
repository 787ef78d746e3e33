"""One look for every figure: readable at 8.5 cm, apart for every colour vision, the same bytes each time.

Figures draw on matplotlib's own canvas objects; pyplot and its global state are never touched.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from e4profile.conventions import convention
from e4profile.errors import SettingError, one_of, replace_file
from e4profile.show.numbers import percent
from e4profile.show.paper import LEAST_POINTS, paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PNG_DPI = 300
_LEGEND_KEY_INCHES = 0.3
_PAD_INCHES = 0.04
_POINTS_PER_INCH = 72
# widths of a character and heights of a line, of the size of the type
_CHARACTER, _BOLD_CHARACTER, _LINE, _TITLE_LINE, _LEGEND_LINE = 0.54, 0.63, 1.3, 1.9, 1.75

# Okabe and Ito's palette: told apart under protanopia, deuteranopia and tritanopia, and by lightness in grey.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6E6E6E"
LIGHT_GREY = "#C8C8C8"

E4_COLOUR = BLUE
GCNN_COLOUR = VERMILION

TERM_COLOURS: dict[str, str] = {
    "lifting": BLACK,
    "encoder": BLUE,
    "squeeze": SKY_BLUE,
    "generator": GREEN,
    "aggregation": ORANGE,
    "group convolution": VERMILION,
    "convolution": PURPLE,
    "linear": GREY,
}
"""A named term has one colour in every figure."""

SPARE_COLOURS = (YELLOW, "#8C510A", "#35978F", "#762A83", "#332288", "#DDCC77", "#882255", LIGHT_GREY)
"""For terms without a colour of their own, in the order in which they appear."""

RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    # names are the user's: between two dollars there may be anything
    "text.parse_math": False,
    "figure.facecolor": "white",
    "axes.linewidth": 0.5,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E2E2E2",
    "grid.linewidth": 0.4,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    # text stays text: it can be searched, and set in the document's own type
    "svg.fonttype": "none",
    "svg.hashsalt": "e4profile",
    # journals want whole fonts, not outlines of letters
    "pdf.fonttype": 42,
}

_TEXTS = (
    "font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize",
    "figure.titlesize",
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A finished figure and the numbers it shows, one mapping per drawn item."""

    name: str
    figure: Figure
    data: Sequence[Mapping[str, object]]


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's defaults with this style on top, whatever the reader's own configuration says.

    Raises:
        SettingError: for a font that this machine lacks.
    """
    import matplotlib.style

    with matplotlib.style.context(["default", {**RC, **dict.fromkeys(_TEXTS, points()), **_font(paper().font)}]):
        yield


def points() -> float:
    """The size of all text; nothing is set smaller."""
    return paper().font_points


def _font(family: str) -> dict[str, Any]:
    if not family or family == "sans":
        return {}
    if family == "serif":
        return {"font.family": "serif", "font.serif": ["DejaVu Serif"]}
    from matplotlib.font_manager import get_font_names

    return {"font.family": one_of("font", family, ("sans", "serif", *sorted(get_font_names())))}


@cache
def _figures() -> type[Figure]:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """A figure that a notebook shows, also where pyplot is not loaded."""

        def _repr_png_(self) -> bytes:
            held = io.BytesIO()
            self.savefig(held, format="png")
            return held.getvalue()

    return Shown


def new_figure(panel_inches: float) -> Figure:
    """An empty figure, as wide as the column of a paper, that lays itself out; ``finish`` adds to its height."""
    larger = points() / LEAST_POINTS
    return _figures()(figsize=(paper().width_inches, panel_inches * larger), dpi=PNG_DPI, layout="constrained")


def finish(
    figure: Figure,
    subject: str,
    title: str,
    handles: Sequence[Any],
    remarks: Sequence[str] = (),
    *,
    convention_name: str | None = "macs",
) -> None:
    """Add the title above and, under the panels, the legend, the convention in full and further remarks.

    The figure grows by what is added, so the panels keep their height and nothing lies on the data. Without a
    convention (a figure that shows no operations) the remarks stand alone.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = (float(inches) for inches in figure.get_size_inches())
    em = points() / _POINTS_PER_INCH
    sentences = [] if paper().bare else list(remarks)
    if convention_name is not None and not paper().bare:
        sentences.insert(0, f"{convention_name}: {convention(convention_name).meaning}; one image.")
    across = int((width - 2 * _PAD_INCHES) / (_CHARACTER * em))
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, across)]
    footnote = _LINE * em * len(lines) + 2 * _PAD_INCHES
    columns = _legend_columns([str(handle.get_label()) for handle in handles], width, em)
    below = footnote + _LEGEND_LINE * em * math.ceil(len(handles) / columns)
    heading = "" if paper().bare else f"{subject}: {title}" if title else subject
    across = int((width - 2 * _PAD_INCHES) / (_BOLD_CHARACTER * em))
    headings = [heading] if len(heading) <= across else [f"{subject}:", title] if title else [subject]
    headings = [line for part in headings for line in textwrap.wrap(part, across)]
    height += below + _TITLE_LINE * em * len(headings)
    figure.set_size_inches(width, height)
    if headings:
        figure.suptitle("\n".join(headings), fontweight="bold")
    left, bottom = _PAD_INCHES / width, _PAD_INCHES / height
    note = figure.text(left, bottom, "\n".join(lines), va="bottom", color=GREY, linespacing=1.2)
    legend = figure.legend(
        handles=list(handles),
        loc="lower center",
        ncols=columns,
        bbox_to_anchor=(0.5, footnote / height),
        borderpad=0,
        borderaxespad=0,
    )
    for placed in (note, legend):
        placed.set_in_layout(False)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below / height, 1, 1 - below / height))
    # The layout is found once, not again for every file format.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _legend_columns(labels: Sequence[str], width: float, em: float) -> int:
    """As many columns as fit the width, at most four; matplotlib fills them from top to bottom."""
    for columns in range(min(4, len(labels)), 1, -1):
        # Full columns come first: with seven entries in four columns, three hold two and one holds one.
        rows, longer = divmod(len(labels), columns)
        heights = [rows + (column < longer) for column in range(columns)]
        starts = [sum(heights[:column]) for column in range(columns)]
        widest = [max(map(len, labels[start : start + n])) for start, n in zip(starts, heights, strict=True)]
        if sum(_LEGEND_KEY_INCHES + _CHARACTER * em * length for length in widest) < width:
            return columns
    return 1


_WIDE_RANGE = 1000.0
_NARROW_RANGE = 5.0
_LEAST_TICKS = 3


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with as many plain numbers as its decades leave room for.

    At least three: where a decade's own are too far apart, they are as on a linear axis.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    span = high / low
    subs = (1,) if span > _WIDE_RANGE else (1, 3) if span > _NARROW_RANGE else (1, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    if sum(low <= tick <= high for tick in axis.get_majorticklocs()) < _LEAST_TICKS:
        linear = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        axis.set_major_locator(FixedLocator([tick for tick in linear if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e5 else f"{value:,.0f}"))
    axis.set_minor_locator(NullLocator())


def around(values: Sequence[float], margin: float = 1.3) -> tuple[float, float]:
    """Limits of a logarithmic axis: the smallest and the largest positive value with a margin as a factor."""
    positive = [value for value in values if value > 0] or [1.0]
    return min(positive) / margin, max(positive) * margin


def value_ticks(axes: Axes, values: Sequence[int], *, doubled: bool, most: int = 6) -> None:
    """An x axis that names the settings themselves; doubled ones stand equally far apart."""
    from matplotlib.ticker import NullLocator

    if doubled:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    step = -(-len(values) // most)
    axes.set_xticks(list(values)[::step], [str(value) for value in list(values)[::step]])
    axes.margins(x=0.14)


def along_steps(front: Sequence[tuple[float, float]], pieces: int = 64) -> list[tuple[float, float]]:
    """Points on the steps of a front on logarithmic axes, for labels to keep away from."""
    found = []
    for (x, y), (next_x, next_y) in pairwise(front):
        for piece in range(pieces + 1):
            part = piece / pieces
            found += [(x * (next_x / x) ** part, y), (next_x, y * (next_y / y) ** part)]
    return found


def named_rows(axes: Axes, names: Sequence[str], margin: float = 0.4) -> None:
    """A y axis of names from top to bottom, without marks or lines of its own."""
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(len(names) - margin, margin - 1)
    axes.grid(visible=False, axis="y")


def stacked_shares(
    axes: Axes, place: float, percents: Mapping[str, float], colours: Mapping[str, str], *, height: float, named: float
) -> None:
    """A bar of percentages side by side, in the order of their colours; those of at least ``named`` have a label."""
    edge = 0.0
    for name, colour in colours.items():
        length = percents.get(name, 0.0)
        axes.barh(place, length, left=edge, height=height, color=colour, edgecolor="white", linewidth=0.3)
        if length >= named:
            axes.text(edge + length / 2, place, percent(length), color=readable_on(colour), ha="center", va="center")
        edge += length


def readable_on(colour: str) -> str:
    """Black or white, whichever stands out on ``#RRGGBB``: the eye weighs red, green and blue differently."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "white"


def beside(axes: Axes, ems: float, row: float, text: str, colour: str) -> None:
    """A right-aligned entry of a column to the right of the panel, so many sizes of the type from its edge."""
    axes.annotate(
        text,
        (1, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(ems * points(), 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=colour,
        annotation_clip=False,
    )


FORMATS = ("svg", "png", "csv", "pdf")
"""What a figure can be written as: drawing, picture, its numbers, and a drawing for LaTeX."""

USUAL = ("svg", "png", "csv")
"""What it is written as where nothing else is asked for."""


def is_file(place: Path) -> bool:
    """Whether figures go into one file, ``x.pdf``, and not into a folder."""
    return place.suffix.removeprefix(".") in FORMATS and not place.is_dir()


def check_folder(folder: Path) -> None:
    """Refuse a folder of figures, or a file of one, that could not be made or written, before anything is drawn.

    Raises:
        SettingError: naming what is in the way.
    """
    folder = folder.parent if is_file(folder) else folder
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise SettingError(f"cannot write figures to {folder}: {there} is a file; name another folder")
    if not os.access(there, os.W_OK):
        raise SettingError(f"cannot write figures to {folder}: no permission in {there}; name another folder")


def save(plot: Plot, folder: Path, formats: Sequence[str] = USUAL) -> list[Path]:
    """Write the figure as drawings and picture and its numbers as CSV; each file appears whole or not at all.

    Returns the paths. The same plot gives the same bytes.

    Raises:
        SettingError: when the folder or a file in it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg, png, pdf, table = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.StringIO()
    # The canvases are asked directly: savefig would draw everything once more per format, to find the layout.
    raster: Any = FigureCanvasAgg(plot.figure)
    vector: Any = FigureCanvasSVG(plot.figure)
    contents: dict[str, bytes] = {}
    if "png" in formats:
        raster.print_png(png, metadata={"Software": None})
        contents["png"] = png.getvalue()
    if "svg" in formats:
        vector.print_svg(svg, metadata={"Date": None, "Creator": "e4profile"})
        contents["svg"] = numbered_names(svg.getvalue().decode("utf-8")).encode()
    if "pdf" in formats:
        printed: Any = FigureCanvasPdf(plot.figure)
        printed.print_pdf(pdf, metadata={"CreationDate": None, "Creator": "e4profile"})
        contents["pdf"] = pdf.getvalue()
    columns = list(dict.fromkeys(key for item in plot.data for key in item))
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plot.data)
    contents["csv"] = table.getvalue().encode()
    chosen = {ending: contents[ending] for ending in FORMATS if ending in formats}
    paths = {folder / f"{plot.name}.{ending}": content for ending, content in chosen.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in paths.items():
            replace_file(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise SettingError(f"cannot write figures to {folder}: {reason}; name another folder") from error
    return list(paths)


_DEFINED = re.compile(r'\bid="((?:m|p|h|image|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10})"')


def numbered_names(svg: str) -> str:
    """Number what matplotlib names by a hash: markers, clip paths, hatches, images, collections.

    The hash of a clip path is that of its floating-point corners, whose last bit the layout's solver leaves to the
    order of objects in memory; what is drawn has six decimals and does not change.
    """
    names = {name: f"{name[:-10]}{number}" for number, name in enumerate(dict.fromkeys(_DEFINED.findall(svg)), 1)}
    return re.sub(r'(?<=[#"])\w+(?=[)"])', lambda found: names.get(found[0], found[0]), svg)
