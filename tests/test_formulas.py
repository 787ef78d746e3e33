from __future__ import annotations

import pytest
import sympy as sp

from e4profile.errors import UnknownNameError
from e4profile.formulas import find_layer, formula_latex, formula_terms, formula_text, layer_names
from e4profile.layers import E4Conv2d, GroupConv2d, LiftingConv2d


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
    assert find_layer(name) is layer


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
    for term in (*layer.params, *layer.macs, *layer.elements):
        assert f"  {term} " in text
        assert f"\\text{{{term}}}" in latex
    assert len(terms) == len(layer.params) + len(layer.macs) + len(layer.elements)
    assert latex.count("\\begin{align*}") == latex.count("\\end{align*}")
    assert latex.count("{") == latex.count("}")
    assert "_" not in latex.split("%")[0]


def test_the_printed_form_is_section_4_2() -> None:
    from e4profile.symbols import A_K, A_V, A, c_in, c_out, h, h_out, k, r, s, w, w_out

    c = sp.Symbol("c", positive=True)
    paper = {c_in: c, c_out: c, A_V: A, A_K: A, h_out: h, w_out: w}
    params = sum(E4Conv2d.params[name] for name in E4Conv2d.printed["params"]).subs(paper)
    macs = sum(E4Conv2d.macs[name] for name in E4Conv2d.printed["macs"]).subs(paper)
    assert sp.simplify(params - (c**2 * A * (1 + 1 / r) + c * s * k**2 / r)) == 0
    assert sp.simplify(macs - ((1 + 1 / r) * c**2 * A**2 * h * w + (1 + s / r) * k**2 * c * A * h * w)) == 0
    assert GroupConv2d.params["weight"].subs(paper) == c**2 * k**2 * A
