"""Rows of a sweep of the rot-MNIST stack, from the costs of its layers written out as plain arithmetic."""

from __future__ import annotations

from itertools import product

ORDERS = {"p4": 4, "p4m": 8}
PIXELS = 28 * 28 + 2 * 14 * 14 + 3 * 7 * 7
ELEMENTS_PER_NORM = 2


def row(
    kernel: int, reduction: int | None, slices: int | None, *, group: str = "p4", width: int = 16
) -> dict[str, object]:
    """One E4 setting, or the G-CNN when reduction and slices are None."""
    order, taps = ORDERS[group], kernel * kernel
    terms = {"lifting": 9 * width * order * 28 * 28}
    if reduction is None or slices is None:
        terms["group convolution"] = width**2 * order**2 * taps * PIXELS
        params = 6 * width**2 * order * taps
    else:
        hidden = width // reduction
        terms["encoder"] = width**2 * order**2 * PIXELS
        terms["squeeze"] = width * hidden * order**2 * PIXELS
        terms["generator"] = hidden * slices * taps * order * PIXELS
        terms["aggregation"] = width * order * taps * PIXELS
        params = 6 * (width**2 * order + width * hidden * order + hidden * slices * taps)
    terms["linear"] = 10 * width
    macs = sum(terms.values())
    norms = ELEMENTS_PER_NORM * width * order * PIXELS
    return {
        "model": "e4net-gcnn" if reduction is None else "e4net",
        "card": "e4net",
        "baseline": reduction is None,
        "group": group,
        "width": width,
        "kernel": kernel,
        "reduction": reduction,
        "slices": slices,
        "params_formula": params + 500,
        "params_measured": params + 500,
        "macs_formula": macs,
        "macs_measured": macs,
        "params_printed_form": params,
        "macs_printed_form": macs - terms["linear"],
        "fvcore": macs - terms.get("aggregation", 0) + norms,
        "thop": terms["linear"] + norms,
        "gaps": {
            "fvcore": {"norms": norms, "aggregation": -terms.get("aggregation", 0), "unexplained": 0},
            "thop": {"norms": norms, "not seen": terms["linear"] - macs, "unexplained": 0},
        },
        "agrees": True,
        "params_ratio": None,
        "macs_ratio": None,
        "terms": terms,
    }


def sweep(
    kernels: tuple[int, ...] = (3, 5, 7),
    reductions: tuple[int, ...] = (1, 2, 4),
    slices: tuple[int, ...] = (1, 2, 4),
    *,
    group: str = "p4",
    width: int = 16,
) -> list[dict[str, object]]:
    """The grid with a baseline per kernel and the ratios to it."""
    rows = []
    for kernel in kernels:
        baseline = row(kernel, None, None, group=group, width=width)
        grid = [row(kernel, r, s, group=group, width=width) for r, s in product(reductions, slices)]
        for item in (baseline, *grid):
            for quantity in ("params", "macs"):
                cost, reference = item[f"{quantity}_formula"], baseline[f"{quantity}_formula"]
                assert isinstance(cost, int)
                assert isinstance(reference, int)
                item[f"{quantity}_ratio"] = cost / reference
        rows += [baseline, *grid]
    return rows
