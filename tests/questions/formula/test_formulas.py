from __future__ import annotations

import re
from pathlib import Path

import pytest
import sympy as sp
from latex_column import compiled

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import E4Conv2d, GroupConv2d, LiftingConv2d
from e4profile.layers.terms import evaluate, total
from e4profile.questions.formula.formulas import (
    find_layer,
    formula_latex,
    formula_terms,
    formula_text,
    layer_names,
    layer_symbols,
    settings,
    sums,
    tables,
    values_in,
)
from e4profile.show.notation import written, written_sum
from e4profile.subjects.subject import resolve
from e4profile.symbols import MEANING


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("e4", E4Conv2d),
        ("E4Conv2d", E4Conv2d),
        ("e4_conv2d", E4Conv2d),
        ("group-conv", GroupConv2d),
        ("LIFTING", LiftingConv2d),
    ],
)
def test_a_layer_by_many_names(name: str, layer: type) -> None:
    assert issubclass(find_layer(name), layer)
    assert find_layer(name).__name__ == layer.__name__


def test_no_layer_hides_another() -> None:
    assert all(find_layer(name).__name__ == name for name in layer_names())
    with pytest.raises(UnknownNameError, match="did you mean"):
        find_layer("GroupConv3d")
    with pytest.raises(UnknownNameError):
        find_layer("")


@pytest.mark.parametrize("name", layer_names())
def test_every_layer_can_be_written_in_every_format(name: str) -> None:
    layer = find_layer(name)
    text, latex, terms = formula_text(layer), formula_latex(layer), formula_terms(layer)
    for table in tables(layer):
        for term in table.terms:
            assert f"\n{'*' if term in table.in_paper else ' '} {term} " in text
            assert f"\\text{{{term}}}" in latex
    given = (layer.params, layer.macs, layer.elements, layer.saved or {}, layer.saved_constant)
    assert len(terms) == sum(map(len, given))
    assert latex.count("\\begin{align*}") == latex.count("\\end{align*}")
    assert latex.count("{") == latex.count("}")
    assert not re.search(r"_\{[a-z]{2,}", latex)
    assert "_" not in latex.split("%")[0]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", layer_names())
def test_each_written_formula_read_back_is_the_term(name: str) -> None:
    for table in tables(find_layer(name)):
        for expression in table.terms.values():
            assert sp.expand(read(written(expression)) - expression) == 0
        for parts in sums(table).values():
            assert sp.expand(read(written_sum(list(parts.values()))) - total(parts)) == 0


def read(text: str) -> sp.Expr:
    """A written formula as an expression: blanks multiply, a stroke divides."""
    product = re.sub(r"(?<=[\w)]) (?=[\w(])", "*", text).replace("^", "**")
    return sp.sympify(product, locals={str(symbol): symbol for symbol in MEANING})


def numbers(text: str) -> dict[str, int]:
    """The first number behind each term of a text, later tables first."""
    rows = re.findall(r"^[* ] (\w.*?) {2,}([\d,]+)  \S", text, re.MULTILINE)
    return {term: int(number.replace(",", "")) for term, number in reversed(rows)}


def test_the_numbers_are_those_of_the_layer_itself() -> None:
    """The layer's own cost at a shape, and its tensors, against what --set evaluates."""
    layer = E4Conv2d(16, 24, 5, group="p4", reduction=2, slices=3)
    given = {"c_in": 16, "c_out": 24, "A": 4, "k": 5, "r": 2, "s": 3, "h": 14, "w": 12}
    values, assumed = settings(E4Conv2d, given)
    assert {str(symbol) for symbol in assumed} >= {"h_out", "w_out", "A_V", "A_K", "nu", "q"}
    cost = layer.cost((1, 16 * 4, 14, 12))
    terms = {(row["table"], row["term"]): row["value"] for row in formula_terms(E4Conv2d, values)}
    assert {name: terms["params", name] for name in cost.params} == cost.params
    run = {name: macs for name, macs in cost.macs.items() if macs}
    assert {name: terms["macs", name] for name in run} == run
    text = formula_text(E4Conv2d, values, assumed)
    shown = numbers(text)
    assert sum(p.numel() for p in layer.parameters()) == cost.total_params
    assert (shown["squeeze norm"], shown["generator bias"]) == (16, 75)
    assert f" {cost.total_params:,}  " in text
    assert f" {cost.total_macs:,}  " in text
    assert f" {cost.printed_params:,}  " in text
    assert "assumed: " in text
    assert "at: c_in=16, c_out=24, A=4, s=3, k=5, h=14, w=12, r=2" in text


def test_what_is_assumed_follows_what_is_given() -> None:
    values, assumed = settings(GroupConv2d, {"c_in": 3, "A": 8, "k": 5, "h": 7, "w": 5, "w_out": 2, "beta": 1})
    by_name = {str(symbol): value for symbol, value in values.items()}
    assert {"c_out": 3, "h_out": 7, "w_out": 2, "beta": 1}.items() <= by_name.items()
    assert {"c_out", "h_out"} <= set(map(str, assumed))
    assert not {"w_out", "beta"} & set(map(str, assumed))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c_in": 16}, r"no value for A, s, k, h, r; add for example --set A=4 --set s=1"),
        ({"cin": 16}, "unknown symbol of E4Conv2d 'cin'; did you mean c_in"),
        ({"c_in": 0}, r"c_in \(=0\) must be a whole number of at least 1"),
        ({"nu": -1}, r"nu \(=-1\) must be a whole number of at least 0"),
        ({"r": "two"}, r"r \(=two\)"),
        ({"r": True}, r"r \(=True\)"),
        ({"r": 1.5}, r"r \(=1.5\)"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises((SettingError, UnknownNameError), match=message):
        settings(E4Conv2d, given)


def test_a_reduction_that_does_not_divide_is_refused() -> None:
    values, _ = settings(E4Conv2d, {"c_in": 16, "A": 4, "k": 3, "r": 3, "s": 1, "h": 8})
    with pytest.raises(SettingError, match="not a whole number"):
        formula_text(E4Conv2d, values)


def test_the_papers_formula_is_section_4_2() -> None:
    from e4profile.symbols import A_K, A_V, A, c_in, c_out, h, h_out, k, r, s, w, w_out

    c = sp.Symbol("c", positive=True)
    paper = {c_in: c, c_out: c, A_V: A, A_K: A, h_out: h, w_out: w, **dict.fromkeys(E4Conv2d.in_irreps_where, 0)}
    params = sum(E4Conv2d.params[name] for name in E4Conv2d.printed["params"]).subs(paper)
    macs = sum(E4Conv2d.macs[name] for name in E4Conv2d.printed["macs"]).subs(paper)
    assert sp.simplify(params - (c**2 * A * (1 + 1 / r) + c * s * k**2 / r)) == 0
    assert sp.simplify(macs - ((1 + 1 / r) * c**2 * A**2 * h * w + (1 + s / r) * k**2 * c * A * h * w)) == 0
    assert GroupConv2d.params["weight"].subs(paper) == c**2 * k**2 * A


def test_an_execution_shows_its_own_terms_only() -> None:
    bank, irreps = find_layer("group"), find_layer("group", "irreps")
    assert set(bank.macs) == {"convolution"}
    assert set(irreps.macs) == {"irrep products"}
    assert not bank.elements
    for layer, of_bank in ((bank, True), (irreps, False)):
        used = {str(symbol) for symbol in layer_symbols(layer)}
        assert not used & {"iota", "iota_V", "iota_K"}
        assert ("A_rho" in used) is not of_bank
    text = formula_text(irreps)
    # Cohen & Welling's p4m: 64 MACs by the bank, 12 in the irrep basis, 11 with Strassen's product
    assert re.search(r"D4 +64 +12 +11\n", text)
    assert re.search(r"C4 +16 +6 +5\n", text)
    assert "no MACs" in text
    assert max(map(len, text.splitlines())) <= 80
    with pytest.raises(SettingError, match="FieldBatchNorm2d does not run in the irrep basis"):
        find_layer("FieldBatchNorm2d", "irreps")
    with pytest.raises(UnknownNameError, match="'auto'"):
        find_layer("group", "auto")


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
def test_terms_of_an_execution_are_those_of_the_layer(group: Group) -> None:
    for execution in ("bank", "irreps"):
        layer = GroupConv2d(3, 5, 3, group=group, padding=1, execution=execution)
        cost, values = layer.cost((1, 3 * group.order, 6, 7)), layer.dimensions((1, 3 * group.order, 6, 7))
        stated = evaluate(find_layer("group", execution).macs, values)
        assert stated == {name: macs for name, macs in cost.macs.items() if macs}


def test_a_card_gives_the_values_of_a_layer_that_runs_in_the_irrep_basis() -> None:
    values, origin = values_in(find_layer("steerable", "irreps"), resolve("d8resnet18"), {})
    # the stem reads an image: as a lifting convolution it has both executions
    assert (values["A_in"], values["delta_lift"], values["A_lift"]) == (1, 1, 73)
    assert origin == values_in(find_layer("steerable"), resolve("d8resnet18"), {})[1]
    assert origin.startswith("stem")


def test_formulas_fit_the_column_of_a_paper(tmp_path: Path) -> None:
    assert "Overfull" not in compiled(tmp_path, "".join(formula_latex(find_layer(name)) for name in layer_names()))
