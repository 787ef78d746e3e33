"""One layer under each of its executions: by a filter bank, as published, or in the irrep basis."""

from __future__ import annotations

from typing import Any

from e4profile.errors import SettingError, one_of
from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import LAYERS, EquivariantLayer
from e4profile.layers.terms import Terms
from e4profile.symbols import A_lift, A_rho, at


def executed(layer: type[EquivariantLayer], execution: str) -> type[EquivariantLayer]:
    """The layer with the terms of one execution: "bank" or "irreps"; as it is where it has only one.

    Raises:
        SettingError: for a layer that does not run in the irrep basis.
        UnknownNameError: for another execution.
    """
    one_of("execution", execution, ("bank", "irreps"))
    if not layer.in_irreps_where:
        if execution == "irreps":
            known = ", ".join(sorted(name for name, one in LAYERS.items() if one.in_irreps_where))
            raise SettingError(f"--execution: {layer.__name__} does not run in the irrep basis; these do: {known}")
        return layer
    values = dict.fromkeys(layer.in_irreps_where, int(execution == "irreps"))

    def terms(key: str) -> Terms:
        found = {name: at(term, values) for name, term in getattr(layer, key).items()}
        return {name: term for name, term in found.items() if term != 0}

    own: dict[str, Any] = {key: terms(key) for key in ("macs", "elements", "saved_constant")}
    if execution == "irreps":
        own["peak"] = None
    view = {
        "in_irreps_where": (),
        "shown_execution": execution,
        "__doc__": layer.__doc__,
        "__module__": layer.__module__,
    }
    return type(layer.__name__, (layer,), {**own, **view})


def comparison_lines(layer: type[EquivariantLayer]) -> list[str]:
    """What a pair of fields costs by group and execution, below terms in the irrep basis; nothing below others."""
    used = {symbol for term in layer.macs.values() for symbol in getattr(term, "free_symbols", ())}
    if layer.in_irreps_where:
        return []
    return (_between_fields() if A_rho in used else []) + (_from_images() if A_lift in used else [])


def _between_fields() -> list[str]:
    rows = [
        (group.name, group.order**2, group.irrep_products, sum(irrep.fewest_products for irrep in group.irreps))
        for group in (*GRID_EXACT, Group(8), Group(8, True))
    ]
    return [
        "",
        "MACs of a pair of fields at one offset and position",
        "  group  bank A^2  irreps A_rho  fewest known products",
        *(f"  {name:<5}  {bank:>8}  {irreps:>12}  {fewest:>21}" for name, bank, irreps, fewest in rows),
        "The irreps of a group turn its convolution into a product of d x d matrices",
        "each: d^3 MACs, or d^2 where rotations commute with the irrep (complex type).",
        "Fewer products are known (Gauss: 3 for a complex product; Strassen: 7 for",
        "2 x 2 matrices), for more additions; they do not run here.",
    ]


def _from_images() -> list[str]:
    kernels = (1, 3, 5, 7)
    rows = [
        (group.name, *(f"{group.order * k**2}, {group.lifting_products(k)}" for k in kernels)) for group in GRID_EXACT
    ]
    head = ("group", *(f"k = {k}" for k in kernels))
    return [
        "",
        "MACs of an image channel and a field at one position: bank A k^2, irreps A_lift",
        *(f"  {name:<5}" + "".join(f"{cell:>10}" for cell in cells) for name, *cells in (head, *rows)),
        "The group moves the taps of a filter in orbits. Of an irrep with d dimensions,",
        "m of which the elements that fix a tap leave as they are, an orbit costs d^2 m",
        "MACs, or d m of complex type.",
    ]
