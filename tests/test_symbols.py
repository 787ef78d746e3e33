"""The expressions of the tables against sympy: the same value, the same text, and one beside the other."""

from __future__ import annotations

import operator
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from e4profile.errors import SettingError
from e4profile.layers.terms import evaluate, many, value
from e4profile.symbols import A, c_in, has_bias, is_dense, k, least, r

SYMBOLS = (A, c_in, k, r, has_bias)
SIZES = st.fixed_dictionaries({symbol: st.integers(1, 9) for symbol in SYMBOLS[:-1]}).map(
    lambda at: {**at, has_bias: 1}
)


def _pair(operation: Any, one: Any, other: Any) -> tuple[Any, Any]:
    return operation(one[0], other[0]), operation(one[1], other[1])


def _grown(smaller: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    joined = st.builds(_pair, st.sampled_from((operator.add, operator.sub, operator.mul)), smaller, smaller)
    smallest = st.builds(lambda one, other: (least(one[0], other[0]), sp.Min(one[1], other[1])), smaller, smaller)
    divisors = st.one_of(st.sampled_from((A, r)).map(lambda symbol: (symbol, sp.sympify(symbol))))
    quotient = st.builds(lambda one, by: (one[0] / by[0], one[1] / by[1]), smaller, divisors)
    power = st.builds(lambda one, exponent: (one[0] ** exponent, one[1] ** exponent), smaller, st.integers(1, 3))
    return st.one_of(joined, joined, quotient, power, smallest)


LEAVES = st.one_of(
    st.sampled_from(SYMBOLS).map(lambda symbol: (symbol, sp.sympify(symbol))),
    st.integers(-3, 3).map(lambda number: (number, sp.Integer(number))),
)
PAIRS = st.recursive(LEAVES, _grown, max_leaves=8).filter(lambda pair: not isinstance(pair[0], (float, Fraction)))


@settings(deadline=None)
@given(PAIRS, SIZES)
def test_an_expression_has_the_text_and_the_value_of_sympy(pair: tuple[Any, Any], at: dict[Any, int]) -> None:
    ours, theirs = pair
    assert str(ours) == str(theirs)
    exact = sp.Rational(theirs.subs({sp.sympify(symbol): number for symbol, number in at.items()}))
    # sympy's own functions take the smaller of two fractions in floating point
    for term in (ours,) if theirs.has(sp.Min) else (ours, theirs):
        if exact.q == 1:
            assert value(term, at) == exact
        else:
            with pytest.raises(SettingError, match="not a whole number"):
                value(term, at)


@settings(deadline=None)
@given(PAIRS)
def test_arrays_get_the_values_of_their_elements(pair: tuple[Any, Any]) -> None:
    at = {A: np.array([1, 2, 4]), c_in: np.array([3, 5, 7]), k: 3, r: 1, has_bias: 0}
    ours = pair[0] * A**9
    found = np.broadcast_to(many(ours, at), 3)
    assert found.tolist() == [
        value(ours, {symbol: int(np.broadcast_to(number, 3)[index]) for symbol, number in at.items()})
        for index in range(3)
    ]


def test_a_denominator_is_multiplied_in_once() -> None:
    at = {c_in: np.array([2**20]), r: np.array([2**20])}
    assert many(sum(c_in / r * number for number in (1, 2, 3, 4)), at).tolist() == [10]


def test_a_negative_power_divides() -> None:
    assert value(12 * A**-1 * r**-2, {A: 3, r: 2}) == 1
    assert str(A**-1) == str(sp.sympify(A) ** -1)


def test_symbols_of_sympy_stay_beside_ours() -> None:
    n = sp.Symbol("n")
    terms = {"left": n * c_in, "right": c_in**2 * n / r, "alone": n**2, "whole": sp.Integer(7)}
    assert evaluate(terms, {n: 3, c_in: 4, r: 2}) == {"left": 12, "right": 24, "alone": 9, "whole": 7}
    assert sp.simplify(n * c_in - c_in * n) == 0
    assert (c_in * A).subs(c_in, 2) == 2 * sp.sympify(A)


def test_a_part_that_is_absent_leaves_the_number() -> None:
    assert (A * 0, A + 0, 1 * A, A - 0, A / 1, A**1, least(2, 1)) == (0, A, A, A, A, A, 1)
    assert (1 - is_dense) * 1 == 1 - is_dense != is_dense - 1


def test_an_expression_is_a_key_in_every_process() -> None:
    term = c_in * (c_in / r) * A
    copied = pickle.loads(pickle.dumps(term))
    assert copied == term
    assert {term: 1}[copied] == 1
    assert copied.free_symbols == {c_in, r, A}
    assert copied != c_in * A


def test_what_is_no_term_is_refused() -> None:
    with pytest.raises(TypeError):
        c_in * 0.5
    with pytest.raises(SettingError, match="no value for n in n"):
        value(sp.Symbol("n"), {})
