"""The rows of an equivariance report: its output by element, then its layers."""

from __future__ import annotations

import math
from typing import Any

from e4profile.witnesses.equivariance.witness import STATES, EquivarianceReport, LayerErrors, element_name

WORST = "worst"

OUTPUT, WHOLE = "output", "(network)"
"""The paths of the output's rows, and of a network that is itself one layer."""


def report_rows(report: EquivarianceReport, *, every_element: bool = False) -> list[dict[str, Any]]:
    """One row per element for the output; for a layer its worst element, or every one.

    Parts of a layer are listed where they break. An error is None where the state or the element was not
    compared, and where it is not finite (``holds`` is False then). ``holds`` is None where that is not known.
    """
    names = [element_name(report.group, element) for element in report.group.elements]
    rows = [_row(report, (OUTPUT, None, name), _of_output(report, i)) for i, name in enumerate(names)]
    broken = {layer.path for layer in report.broken}
    for layer in report.layers:
        if layer.inner and layer.path not in broken:
            continue
        worst = {state: layer.worst(state) for state in report.output}
        rows += [
            _row(report, (layer.path or WHOLE, layer.layer, name), errors, layer.reason)
            for name, errors in (
                ((name, _of_layer(layer, i)) for i, name in enumerate(names)) if every_element else [(WORST, worst)]
            )
        ]
    return rows


def _of_output(report: EquivarianceReport, element: int) -> dict[str, float | None]:
    return {state: errors[element] for state, errors in report.output.items()}


def _of_layer(layer: LayerErrors, element: int) -> dict[str, float | None]:
    return {state: errors[element] if errors else None for state, errors in layer.errors.items()}


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
