"""The figures of a sweep, each as SVG, PNG and CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from e4profile.questions.sweep.plot_cost import cost_against_settings
from e4profile.questions.sweep.plot_counters import stock_counters
from e4profile.questions.sweep.plot_gcnn import e4_against_gcnn
from e4profile.questions.sweep.plot_terms import named_terms
from e4profile.questions.sweep.sweep_rows import Study, studies
from e4profile.show.style import Plot, paper_style, save

FIGURES: dict[str, Callable[[Study, str], Plot | None]] = {
    "cost-against-settings": cost_against_settings,
    "e4-against-gcnn": e4_against_gcnn,
    "named-terms": named_terms,
    "stock-counters": stock_counters,
}
"""Every figure of a sweep by the name of its files."""


def plot_sweep(rows: Sequence[Mapping[str, object]], out: Path) -> list[Path]:
    """Draw the figures of a sweep into a folder and return the paths written.

    A figure that the rows cannot fill (nothing varies, no baseline, no counter) is left out. With several
    models or groups each has its own figures, named after it. The same rows give the same bytes.

    Args:
        rows: a mapping per setting with the columns of a sweep and ``terms``, the MACs by named term; with
            ``params_printed_form`` the paper's formula for the parameters is drawn too.
        out: the folder, created when missing.

    Raises:
        SettingError: for a row without one of the columns, or with a count that is not a whole number.
    """
    gathered = studies(rows)
    paths: list[Path] = []
    with paper_style():
        for study in gathered:
            suffix = "" if len(gathered) == 1 else re.sub(r"[^\w.]+", "-", f"-{study.model}-{study.group}")
            for name, draw in FIGURES.items():
                plot = draw(study, name + suffix)
                if plot is not None:
                    paths.extend(save(plot, out))
    return paths
