"""Every layer's closed form as a page shows it: named terms, sums and symbols in MathML."""

from __future__ import annotations

from e4profile.layers import EquivariantLayer
from e4profile.questions.formula import formulas
from e4profile.show.html.model import ClosedForm, FormRow, FormTable
from e4profile.show.notation import written, written_sum
from e4profile.symbols import MEANING


def closed_forms() -> list[ClosedForm]:
    """The layers with a cost, by name."""
    found = [formulas.find_layer(name) for name in formulas.layer_names()]
    return [closed_form(layer) for layer in found if layer.params or layer.macs or layer.elements]


def closed_form(layer: type[EquivariantLayer]) -> ClosedForm:
    """One layer's terms; a sum is written as the sum of its terms."""
    return ClosedForm(
        name=layer.__name__,
        summary=formulas.summary(layer),
        source=layer.source,
        tables=[_table(table) for table in formulas.tables(layer)],
        symbols=[(written(symbol, "mathml"), MEANING[symbol]) for symbol in formulas.layer_symbols(layer)],
    )


def _table(table: formulas.TermTable) -> FormTable:
    rows = [FormRow(name, written(term, "mathml"), name in table.in_paper) for name, term in table.terms.items()]
    added = [FormRow(name, written_sum(list(parts.values()), "mathml")) for name, parts in formulas.sums(table).items()]
    return FormTable(f"{table.heading[0].upper()}{table.heading[1:]}", rows, added)
