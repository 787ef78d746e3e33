from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e4profile.show.numbers import Number, fixed, grouped, percent, si

POWERS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "Z": 21, "Y": 24, "m": -3, "µ": -6, "n": -9}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.000 k"),
        (18_694, "18.69 k"),
        (18_695, "18.70 k"),
        (999_949, "999.9 k"),
        (999_950, "1.000 M"),
        (9_999_500, "10.00 M"),
        (1_234_000, "1.234 M"),
        (-1_234_567, "-1.235 M"),
        (400_000_000, "400.0 M"),
        (5_627_700_000, "5.628 G"),
        (10**27, "1,000 Y"),
    ],
)
def test_integers_in_si_units(value: int, text: str) -> None:
    assert si(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (0.0015, "1.500 ms"),
        (1.5, "1.500 s"),
        (75.25, "75.25 s"),
        (2.5e-6, "2.500 µs"),
        (4e-12, "0.004 ns"),
        (Fraction(1, 3), "333.3 ms"),
        (Decimal("0.99996"), "1.000 s"),
        (4e-13, "0.000 ns"),
    ],
)
def test_seconds_in_si_units(value: Number, text: str) -> None:
    assert si(value, "s") == text


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (Fraction(1, 3), 3, "0.333"),
        (Decimal("0.0005"), 3, "0.001"),
        (0.00042, 3, "0.0004"),
        (-0.358, 2, "-0.36"),
        (12_345.678, 2, "12,345.68"),
        (0, 3, "0.000"),
        (1, 3, "1.000"),
    ],
)
def test_a_fixed_number_of_decimals(value: Number, places: int, text: str) -> None:
    assert fixed(value, places) == text


@given(st.integers())
def test_grouping_loses_nothing(value: int) -> None:
    assert int(grouped(value).replace(",", "")) == value


@given(st.one_of(st.integers(-(10**26), 10**26), st.fractions(min_value=Fraction(1, 10**8), max_value=10**26)))
def test_si_is_within_half_of_its_fourth_digit(value: int | Fraction) -> None:
    digits, _, prefix = si(value).partition(" ")
    read = Fraction(digits.replace(",", "")) * Fraction(10) ** POWERS[prefix]
    assert abs(read - value) <= abs(Fraction(value)) / 2000
    assert len(digits.lstrip("-").replace(".", "")) <= 4


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 6))
def test_fixed_is_within_half_a_unit(value: float, places: int) -> None:
    text = fixed(value, places).replace(",", "")
    assert abs(Fraction(text) - Fraction(value)) <= Fraction(1, 2 * 10**places)


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (99.7, 0, "99.7%"), (99.96, 1, "99.96%"), (100, 0, "100%"), (100.0, 1, "100.0%"), (100.04, 1, "100.04%"),
        (0, 0, "0%"), (0.3, 0, "0.3%"), (0.004, 0, "0.004%"), (49.6, 0, "50%"), (12.34, 1, "12.3%"),
    ],
)  # fmt: skip
def test_a_label_says_all_only_of_all_and_nothing_only_of_nothing(value: float, places: int, text: str) -> None:
    assert percent(value, places) == text
