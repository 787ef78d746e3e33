"""Drawings whose clip paths differ in the last bit of a corner are the same file."""

from __future__ import annotations

import io
import math
import re

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from e4profile.show.style import numbered_names


def drawn(width: float) -> str:
    with mpl.rc_context({"svg.hashsalt": "e4profile"}):
        figure = Figure(figsize=(2, 2))
        axes = figure.add_axes((0.1, 0.1, width, 0.8))
        axes.plot([1, 2], [1, 3], "o-")
        axes.scatter([1, 2], [2, 1], marker="s")
        axes.bar([1], [1], hatch="//")
        found = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(found, metadata={"Date": None})
    return found.getvalue().decode("utf-8")


def test_the_last_bit_of_a_corner_changes_no_name() -> None:
    one, other = drawn(0.7), drawn(math.nextafter(0.7, 1))
    assert one != other
    assert len(one) == len(other)
    assert numbered_names(one) == numbered_names(other)
    assert numbered_names(one) != numbered_names(drawn(0.6))


def test_every_name_that_is_used_is_defined_once() -> None:
    svg = numbered_names(drawn(0.7))
    defined = re.findall(r'\bid="([^"]+)"', svg)
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert len(defined) == len(set(defined))
    assert used
    assert used <= set(defined)
    assert not re.search(r'[#"][A-Za-z_]+[0-9a-f]{10}[")]', svg)
