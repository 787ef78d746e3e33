"""Expressions as the field writes them."""

from __future__ import annotations

import pytest
import sympy as sp

from e4profile.show.notation import wrapped, written, written_sum
from e4profile.symbols import A, c_in, c_out, h_out, has_bias, is_dense, k, r, s, w_out

NEW = sp.Symbol("zeta", positive=True)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (w_out * h_out * k**2 * s * A * c_in / r, "c_in A s k^2 h_out w_out / r"),
        (A**2 * c_out * c_in * 5, "5 c_in c_out A^2"),
        (2 * c_in * has_bias / (r * s), "2 beta c_in / (s r)"),
        (has_bias / r**2, "beta / r^2"),
        (sp.Integer(1) / r, "1 / r"),
        (c_in / 3, "c_in / 3"),
        (-A * k, "-A k"),
        (sp.Integer(7), "7"),
        (A * (1 - is_dense) * (k - r) ** 2, "(1 - delta) A (k - r)^2"),
        (NEW * k * c_in, "c_in k zeta"),
        (A - 2 * c_in, "A - 2 c_in"),
        (has_bias * sp.Min(1, A - 1), "beta min(1, A - 1)"),
        (c_in * sp.Max(A, 3) ** 2, "max(3, A)^2 c_in"),
        ((1 - sp.Min(1, k - 1)) * r, "r (1 - min(1, k - 1))"),
    ],
)
def test_factors_stand_as_in_the_papers(expression: sp.Expr, text: str) -> None:
    assert written(expression) == text


def test_a_sum_keeps_its_parts_apart() -> None:
    parts = [c_in * c_out * A, c_in**2 * A / r, -c_in, c_in * A]
    assert written_sum(parts) == "c_in c_out A + c_in^2 A / r - c_in + c_in A"
    assert (
        written_sum(parts, "latex")
        == r"c_{\mathrm{in}} c_{\mathrm{out}} A + \frac{c_{\mathrm{in}}^{2} A}{r} - c_{\mathrm{in}} + c_{\mathrm{in}} A"
    )


def test_the_least_of_several_in_markup() -> None:
    assert written(sp.Min(1, A - 1), "latex") == r"\min(1, A - 1)"
    markup = written(sp.Min(1, A - 1), "mathml")
    assert markup.startswith("<mrow><mi>min</mi><mo>(</mo><mn>1</mn><mo>,</mo>") or "<mi>min</mi>" in markup
    assert markup.count("<mrow>") == markup.count("</mrow>")


def test_what_has_no_notation_is_refused() -> None:
    with pytest.raises(TypeError, match="no way to write floor"):
        written(sp.floor(A / 2))


def test_mathml_divides_and_raises() -> None:
    markup = written(c_in**2 / r, "mathml")
    assert markup.startswith("<mrow><mfrac><mrow><msup><msub>")
    assert "<mn>2</mn></msup>" in markup
    assert "<mo>+</mo>" in written_sum([A, k], "mathml")


@pytest.mark.parametrize("width", [24, 31, 40, 80])
def test_a_long_formula_breaks_before_an_operator(width: int) -> None:
    formula = written_sum([c_in * c_out * A, c_in**2 * A / r, c_in * s * k**2 / r, s * k**2 * (1 - is_dense)])
    first, *more = wrapped("  total  ", formula, width)
    assert all(len(line) <= width for line in (first, *more))
    assert " ".join([first.removeprefix("  total  "), *(line.strip() for line in more)]) == formula
    if width >= 31:
        assert all(line.strip().startswith(("+ ", "- ")) for line in more)


def test_a_product_longer_than_a_line_breaks_between_factors() -> None:
    formula = written(c_in**2 * A**2 * s * k**2 * h_out * w_out / r)
    lines = wrapped("    ", formula, 20)
    assert [line.strip() for line in lines] == ["c_in^2 A^2 s k^2", "h_out w_out / r"]
    # a denominator stays with its stroke
    assert [line.strip() for line in wrapped("", "aaa bbb / r", 9)] == ["aaa bbb", "/ r"]
    # an operator in brackets is no place to break
    assert wrapped("", "a (b + c) d + e", 9) == ["a (b + c)", "d + e"]
