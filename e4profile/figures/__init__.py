"""The figures: what can be drawn of which networks, the numbers of each, and the set of the reports.

A module here turns cards or records into rows; the module of the same name in ``e4profile.render.figures`` turns
rows into a drawing.
"""

from e4profile.figures.registry import FIGURES, Figure, NothingRecorded, draw, draw_all, find_figure

__all__ = ["FIGURES", "Figure", "NothingRecorded", "draw", "draw_all", "find_figure"]
