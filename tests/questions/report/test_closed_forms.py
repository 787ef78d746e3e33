"""The formulas on the page are the layers' own: their MathML, read back, gives the same numbers."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree as ET

import pytest
import sympy as sp

from e4profile.layers.terms import total
from e4profile.questions.formula.formulas import PAPER, find_layer, layer_names
from e4profile.questions.report.closed_forms import closed_form, closed_forms
from e4profile.symbols import MEANING

# every symbol a number of its own, so that no two can be taken for each other
VALUES = {symbol: 2 * place + 3 for place, symbol in enumerate(sorted(MEANING, key=str))}
GREEK = {"α": "alpha", "β": "beta", "δ": "delta", "ν": "nu"}
OPERATORS = {"\u2062": "*", "+": "+", "-": "-", "−": "-", "(": "(", ")": ")"}


def _python(node: ET.Element) -> str:
    parts = [_python(child) for child in node]
    if node.tag == "msup":
        return f"(({parts[0]})**({parts[1]}))"
    if node.tag == "mfrac":
        return f"(({parts[0]})/({parts[1]}))"
    if node.tag == "msub":
        return f"{parts[0]}_{parts[1]}"
    if node.tag == "mi":
        return GREEK.get(node.text or "", node.text or "")
    if node.tag == "mn":
        return f"Fraction({node.text})"
    if node.tag == "mo":
        return OPERATORS[node.text or ""]
    assert node.tag == "mrow", node.tag
    return f"({''.join(parts)})"


def value(mathml: str) -> Fraction:
    text = _python(ET.fromstring(mathml.replace("&InvisibleTimes;", "\u2062")))
    names = {str(symbol): Fraction(number) for symbol, number in VALUES.items()}
    return Fraction(eval(text, {"__builtins__": {}, "Fraction": Fraction}, names))


def exact(expression: sp.Expr) -> Fraction:
    number = sp.Rational(sp.sympify(expression).subs(VALUES))
    return Fraction(int(number.p), int(number.q))


@pytest.mark.parametrize("name", layer_names())
def test_each_formula_read_back_gives_the_number_of_its_term(name: str) -> None:
    layer = find_layer(name)
    shown_tables = {table.heading: table for table in closed_form(layer).tables}
    for heading, key, terms in (
        ("Parameters", "params", layer.params),
        ("Forward MACs of one image", "macs", layer.macs),
        ("Charged by some conventions, per image", "elements", layer.elements),
        ("Elements kept for backward, per image", "saved", layer.saved),
        ("Elements kept for backward, whatever the batch", "saved_constant", layer.saved_constant),
    ):
        if not terms:
            assert heading not in shown_tables
            continue
        shown = shown_tables[heading]
        assert {row.term: value(row.mathml) for row in shown.terms} == {
            term: exact(expression) for term, expression in terms.items()
        }
        printed = layer.printed.get(key, ())
        assert [row.term for row in shown.terms if row.printed] == [term for term in terms if term in printed]
        sums = {row.term: value(row.mathml) for row in shown.sums}
        if "total" in sums:
            assert sums["total"] == exact(total(terms))
        if PAPER in sums:
            assert sums[PAPER] == sum(exact(terms[term]) for term in printed)


def test_every_layer_with_a_cost_is_there_with_its_source() -> None:
    shown = {form.name: form for form in closed_forms()}
    layers = {layer.__name__: layer for layer in map(find_layer, layer_names())}
    assert set(shown) == {name for name, one in layers.items() if one.params or one.macs or one.elements}
    assert all(form.source and form.summary and form.symbols for form in shown.values())
    assert PAPER in {row.term for table in shown["E4Conv2d"].tables for row in table.sums}
