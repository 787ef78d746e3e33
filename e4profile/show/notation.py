"""Expressions written as the field writes them: fields, group order, stencil, map; in text, LaTeX and MathML.

A computer algebra system sorts factors by the alphabet and puts a sum over one denominator. Here a product reads
c_in c_out A s k^2 h w / r, and a sum stays the sum of its parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from e4profile import symbols as names

Format = Literal["text", "latex", "mathml"]

WIDTH = 80
"""Columns that a formula takes as text."""

_ORDER = [
    symbol.name
    for symbol in (
        names.B,
        names.c_in, names.c_out, names.c_spatial, names.n_groups, names.n_in, names.n_out,
        names.D, names.H, names.P, names.n_hidden,
        names.A, names.A_rho, names.A_in, names.A_out, names.A_rel, names.A_V, names.A_K, names.affine_pairs,
        names.n_grids, names.n_k, names.n_cosets, names.n_add, names.A_lift, names.n_lift,
        names.s, names.k, names.k_h, names.k_w, names.k_gate,
        names.h, names.w, names.h_conv, names.w_conv, names.h_out, names.w_out,
        names.r,
    )
]  # fmt: skip
"""Factors from left to right; what is not named here stands behind, by the alphabet."""


def is_indicator(symbol: names.Symbol) -> bool:
    """Whether a symbol says that a layer has a part (1) or has it not (0)."""
    return not symbol.is_positive


def reading_order(symbol: names.Symbol) -> tuple[int, int, str]:
    """The sorting key of a symbol: indicators first, then as the field writes a cost."""
    name = str(symbol)
    place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    return 0 if is_indicator(symbol) else 1, place, name


@dataclass(frozen=True)
class _Product:
    """A product: a sign, a whole coefficient, the powers above and below the fraction line."""

    negative: bool
    coefficient: int
    above: tuple[tuple[Any, int], ...]
    below: tuple[tuple[Any, int], ...]


def _product(expression: Any) -> _Product:
    import sympy as sp

    number, rest = expression.as_coeff_Mul()
    above: list[tuple[Any, int]] = []
    below: list[tuple[Any, int]] = []
    for base, exponent in rest.as_powers_dict().items():
        if base == 1:
            continue
        (above if exponent > 0 else below).append((base, abs(int(exponent))))
    if number.q != 1:
        below.insert(0, (sp.Integer(number.q), 1))
    return _Product(
        bool(number < 0), abs(int(number.p)), tuple(sorted(above, key=_place)), tuple(sorted(below, key=_place))
    )


def _place(factor: tuple[Any, int]) -> tuple[int, int, str]:
    base = factor[0]
    if base.is_Symbol:
        return reading_order(base)
    if _is_extremum(base):
        return 0, len(_ORDER) + 1, str(base)
    # a factor such as 1 - delta is an indicator itself; any other sum stands last
    switch = base.is_Add and all(map(is_indicator, base.free_symbols))
    return 0 if switch or base.is_Number else 2, 0, str(base)


def _parts(expression: Any) -> list[_Product]:
    """The summands, those with a plus first."""
    import sympy as sp

    products = [_product(part) for part in sp.sympify(expression).as_ordered_terms()]
    return sorted(products, key=lambda product: product.negative)


def written(expression: Any, form: Format = "text") -> str:
    """One expression."""
    return _sum(_parts(expression), form)


def written_sum(expressions: Sequence[Any], form: Format = "text") -> str:
    """A sum whose parts are each written as they are alone."""
    return _sum([product for expression in expressions for product in _parts(expression)], form)


def summands(expressions: Sequence[Any], form: Format = "text") -> list[str]:
    """The parts of that sum one by one, from the second on with their signs."""
    products = [product for expression in expressions for product in _parts(expression)]
    return [_signed(product, form, first=not index) for index, product in enumerate(products)]


def _sum(products: Sequence[_Product], form: Format) -> str:
    parts = [_signed(product, form, first=not index) for index, product in enumerate(products)]
    return _row(parts) if form == "mathml" else " ".join(parts)


def _signed(product: _Product, form: Format, *, first: bool) -> str:
    sign = "-" if product.negative else "" if first else "+"
    body = _fraction(product, form)
    if form == "mathml":
        return f"<mo>{sign}</mo>{body}" if sign else body
    return f"{sign}{body}" if first else f"{sign} {body}"


def _fraction(product: _Product, form: Format) -> str:
    above = [_power(base, exponent, form) for base, exponent in product.above]
    if product.coefficient != 1 or not above:
        above.insert(0, _number(product.coefficient, form))
    below = [_power(base, exponent, form) for base, exponent in product.below]
    top, bottom = _joined(above, form), _joined(below, form)
    if not below:
        return top
    if form == "latex":
        return rf"\frac{{{top}}}{{{bottom}}}"
    if form == "mathml":
        return f"<mfrac>{_row([top])}{_row([bottom])}</mfrac>"
    return f"{top} / {bottom}" if len(below) == 1 else f"{top} / ({bottom})"


def _power(base: Any, exponent: int, form: Format) -> str:
    inner = _base(base, form)
    if exponent == 1:
        return inner
    if form == "mathml":
        return f"<msup>{inner}{_number(exponent, form)}</msup>"
    return f"{inner}^{exponent}" if form == "text" else f"{inner}^{{{exponent}}}"


def _base(base: Any, form: Format) -> str:
    if base.is_Integer:
        return _number(int(base), form)
    if base.is_Symbol:
        return str(base) if form == "text" else _markup(base, form)
    if _is_extremum(base):
        return _extremum(base, form)
    if not base.is_Add:
        raise TypeError(f"no way to write {base}")
    inside = _sum(_parts(base), form)
    return f"<mrow><mo>(</mo>{inside}<mo>)</mo></mrow>" if form == "mathml" else f"({inside})"


_SUBSCRIPT = re.compile(r"_\{([^{}\\]*)\}")


def _markup(symbol: Any, form: Format) -> str:
    from sympy.printing.latex import latex
    from sympy.printing.mathml import mathml

    if form == "mathml":
        markup: str = mathml(symbol, printer="presentation")
        return markup
    # a word is no product of its letters: c_in has an upright in, A_V keeps the V of a set
    return _SUBSCRIPT.sub(
        lambda found: (
            "_{" + ",".join(word if len(word) == 1 else rf"\mathrm{{{word}}}" for word in found[1].split()) + "}"
        ),
        latex(symbol),
    )


def _is_extremum(base: Any) -> bool:
    return type(base).__name__ in ("Min", "Max")


def _extremum(base: Any, form: Format) -> str:
    """A least or a greatest of several, the numbers first."""
    name = type(base).__name__.lower()
    inside = [written(one, form) for one in sorted(base.args, key=lambda one: (not one.is_Number, str(one)))]
    if form == "mathml":
        return f"<mrow><mi>{name}</mi><mo>(</mo>{'<mo>,</mo>'.join(inside)}<mo>)</mo></mrow>"
    return f"{'' if form == 'text' else chr(92)}{name}({', '.join(inside)})"


def _number(value: int, form: Format) -> str:
    return f"<mn>{value}</mn>" if form == "mathml" else str(value)


def _joined(factors: Sequence[str], form: Format) -> str:
    return "<mo>&InvisibleTimes;</mo>".join(factors) if form == "mathml" else " ".join(factors)


def _row(parts: Sequence[str]) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def wrapped(lead: str, formula: str, width: int = WIDTH) -> list[str]:
    """A formula behind a lead in lines of at most ``width``, broken before an operator, else between two factors.

    The later lines stand below the formula's beginning.
    """
    lines, line, indent = [], lead, " " * len(lead)
    for part in _breakable(formula):
        if len(line) + len(part) > width and line.strip() not in ("", lead.strip()):
            lines.append(line.rstrip())
            line = indent
        if len(line) + len(part.rstrip()) > width:
            *full, line = _by_factor(line, part, indent, width)
            lines += full
        else:
            line += part
    return [*lines, line.rstrip()]


def _breakable(formula: str) -> list[str]:
    """The formula cut before each plus and minus outside brackets; every part ends with its blank."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(formula):
        depth += (character == "(") - (character == ")")
        if not depth and formula[index : index + 2] in ("+ ", "- ") and index:
            parts.append(formula[start:index])
            start = index
    return [*parts, formula[start:]]


def _by_factor(line: str, part: str, indent: str, width: int) -> list[str]:
    lines = []
    # a denominator stays with its stroke
    for factor in part.replace(" / ", " /\0").split():
        if len(line) + len(factor) > width and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{factor} ".replace("\0", " ")
    return [*lines, line]
