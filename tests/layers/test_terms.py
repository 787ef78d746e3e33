from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from e4profile.errors import SettingError
from e4profile.layers import LAYERS, E4Conv2d
from e4profile.layers.terms import evaluate, many, total
from e4profile.symbols import MEANING, A, c_in, h_out, k, r, w_out


def test_division_is_exact_or_refused() -> None:
    terms = {"squeeze": c_in * (c_in / r) * A}
    assert evaluate(terms, {c_in: 6, r: 3, A: 4}) == {"squeeze": 48}
    with pytest.raises(SettingError, match=r"not a whole number at .*c_in=5.*r=3"):
        evaluate(terms, {c_in: 5, r: 3, A: 4})


def test_a_symbol_without_value_is_named() -> None:
    with pytest.raises(SettingError, match="no value for A, r"):
        evaluate({"x": c_in * A / r}, {c_in: 2})


@given(st.integers(1, 10**40), st.integers(1, 10**40))
def test_integers_stay_exact_at_any_size(a: int, b: int) -> None:
    assert evaluate({"x": c_in**2 * k + 7}, {c_in: a, k: b}) == {"x": a * a * b + 7}


def test_a_constant_is_a_term() -> None:
    assert evaluate({"one": sp.Integer(3), "zero": sp.Integer(0)}, {}) == {"one": 3, "zero": 0}


def test_many_settings_at_once_equal_each_one_alone() -> None:
    values = {symbol: np.arange(1, 6) * 2 for symbol in (c_in, k, h_out, w_out)} | {A: np.array([[4], [8]]), r: 2}
    expression = c_in * (c_in / r) * A * h_out * w_out + k
    got = many(expression, values)
    assert got.shape == (2, 5)
    for row, order in enumerate((4, 8)):
        for column in range(5):
            alone = {s: int(np.broadcast_to(v, (5,))[column]) for s, v in values.items() if s != A} | {A: order}
            assert got[row, column] == evaluate({"x": expression}, alone)["x"]


def test_the_total_is_the_sum_of_the_terms() -> None:
    assert sp.expand(total(E4Conv2d.params) - sum(E4Conv2d.params.values())) == 0


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_symbol_of_every_layer_has_a_meaning(name: str) -> None:
    layer = LAYERS[name]
    used = set()
    for terms in (layer.params, layer.macs, layer.elements, layer.saved or {}, layer.saved_constant):
        for expression in terms.values():
            used |= getattr(expression, "free_symbols", set())
    assert used <= set(MEANING)
