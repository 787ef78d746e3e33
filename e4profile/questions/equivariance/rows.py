"""The rows of an equivariance report: its output by element, then its layers."""

from __future__ import annotations

import math
from typing import Any

from e4profile.witnesses.equivariance.report import STATES, EquivarianceReport

WORST = "worst"

OUTPUT, WHOLE = "output", "(network)"
"""The paths of the output's rows, and of a network that is itself one layer."""


def report_rows(report: EquivarianceReport, *, every_element: bool = False) -> list[dict[str, Any]]:
    """One row per element for the output; for a layer its worst element, or every one.

    Parts of a layer are listed where they break. An error is None where the state or the element was not
    compared, and where it is not finite (``holds`` is False then). ``holds`` is None where that is not known.
    """
    names = [report.group.element_name(element) for element in report.group.elements]
    rows = [
        _row(report, (OUTPUT, None, name), {state: errors[i] for state, errors in report.output.items()})
        for i, name in enumerate(names)
    ]
    broken = {layer.path for layer in report.broken}
    for layer in report.layers:
        if layer.inner and layer.path not in broken:
            continue
        by_element: list[tuple[str, dict[str, float | None]]] = [
            (name, {state: found[i] if found else None for state, found in layer.errors.items()})
            for i, name in enumerate(names)
        ]
        worst = [(WORST, {state: layer.worst(state) for state in report.output})]
        for name, errors in by_element if every_element else worst:
            rows.append(_row(report, (layer.path or WHOLE, layer.layer, name), errors, layer.reason))
    return rows


def _row(
    report: EquivarianceReport,
    what: tuple[str, str | None, str],
    errors: dict[str, float | None],
    reason: str | None = None,
) -> dict[str, Any]:
    path, layer, element = what
    shown = {
        state: error if error is not None and math.isfinite(error) else None
        for state, error in ((state, errors.get(state)) for state in STATES)
    }
    holds = all(map(report.exact, errors.values()))
    open_ = layer is None and (report.unshown if holds else report.undecided) is not None
    return {
        "holds": None if open_ or all(error is None for error in errors.values()) else holds,
        "path": path,
        "layer": layer,
        "element": element,
        **shown,
        "reason": reason,
    }
