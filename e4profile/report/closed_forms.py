"""Every layer's closed form as a page shows it: named terms, sums and symbols in MathML."""

from __future__ import annotations

import sympy as sp
from sympy.printing.mathml import mathml

from e4profile.formulas import find_layer, layer_names
from e4profile.layers import EquivariantLayer
from e4profile.render.html.model import ClosedForm, FormRow, FormTable
from e4profile.symbols import MEANING
from e4profile.terms import Terms, total


def closed_forms() -> list[ClosedForm]:
    """The layers with a term in some table, by name."""
    found = [find_layer(name) for name in layer_names()]
    return [closed_form(layer) for layer in found if layer.params or layer.macs or layer.elements]


def closed_form(layer: type[EquivariantLayer]) -> ClosedForm:
    """One layer's terms; sums are in factored form, and the source's own form is the sum of its terms alone."""
    summary = (layer.__doc__ or "").strip().splitlines()[0].replace("``", "")
    tables = [
        _table(layer, "params", "Parameters", layer.params),
        _table(layer, "macs", "Forward MACs of one image", layer.macs),
        _table(layer, "elements", "Charged by some conventions, per image", layer.elements, summed=False),
    ]
    used: set[sp.Symbol] = set()
    for terms in (layer.params, layer.macs, layer.elements):
        for expression in terms.values():
            used |= sp.sympify(expression).free_symbols
    return ClosedForm(
        name=layer.__name__,
        summary=summary,
        source=layer.source,
        tables=[table for table in tables if table.terms],
        symbols=[(_presentation(symbol), MEANING[symbol]) for symbol in sorted(used, key=str)],
    )


def _table(
    layer: type[EquivariantLayer], key: str, heading: str, terms: Terms, *, summed: bool = True
) -> FormTable:
    printed = layer.printed.get(key, ())
    rows = [FormRow(name, _presentation(term), name in printed) for name, term in terms.items()]
    sums = []
    if summed and len(terms) > 1:
        sums.append(FormRow("total", _presentation(sp.factor(total(terms)))))
    if printed and 1 < len(printed) < len(terms):
        part = {name: terms[name] for name in printed}
        sums.append(FormRow("the source's form", _presentation(sp.factor(total(part))), printed=True))
    return FormTable(heading, rows, sums)


def _presentation(expression: sp.Expr) -> str:
    markup: str = mathml(sp.sympify(expression), printer="presentation")
    return markup
