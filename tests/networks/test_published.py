from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e4profile.errors import SettingError
from e4profile.networks.published import (
    agrees_rounded,
    agrees_truncated,
    deviation_percent,
    parse_printed,
    printed,
    round_half_up,
    truncate,
)

counts = st.integers(0, 10**40)
exact_numbers = st.one_of(
    st.integers(-(10**40), 10**40),
    st.fractions(),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6),
)
figures = st.builds(
    lambda whole, decimals, space, suffix: f"{whole}{decimals}{space if suffix else ''}{suffix}",
    st.integers(0, 10**12),
    st.one_of(st.just(""), st.integers(0, 9999).map(lambda n: f".{n:04d}"), st.just(".0"), st.just(".5")),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "k", "K", "M", "G"]),
)
units = st.integers(-8, 12).map(lambda e: Decimal((0, (1,), e)))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("18.8K", "18800", "100"),
        ("25.21 k", "25210", "10"),
        ("0.39G", "390000000", "10000000"),
        ("400M", "400000000", "1000000"),
        ("17M", "17000000", "1000000"),
        ("13.0K", "13000", "100"),
        ("18,694", "18694", "1"),
        ("1.290", "1.290", "0.001"),
        ("7", "7", "1"),
    ],
)
def test_a_printed_figure_is_a_value_and_the_unit_of_its_last_digit(text: str, value: str, unit: str) -> None:
    assert parse_printed(text) == (Decimal(value), Decimal(unit))


@pytest.mark.parametrize(
    "text",
    [
        *("", "K", "18.8T", "18.8 KM", "18,8K", "1,23", "18.8  K", "18.8m", ".5M", "5.M", "-3K", "+3", "1e3"),
        *("NaN", " 3K", "3K\n", "٣K", "18.8K "),
    ],
)
def test_a_text_that_is_no_figure_is_refused_by_value(text: str) -> None:
    with pytest.raises(SettingError, match="printed figure") as error:
        parse_printed(text)
    assert repr(text) in str(error.value)


# The rounding rule at its edges: half, just below, just above, and the digits a table dropped.
@pytest.mark.parametrize(
    ("exact", "figure", "rounded", "truncated"),
    [
        (18_750, "18.8K", True, False),
        (18_749, "18.8K", False, False),
        (18_850, "18.8K", False, True),
        (18_849, "18.8K", True, True),
        (18_899, "18.8K", False, True),
        (18_800, "18.8K", True, True),
        (18_900, "18.8K", False, False),
        (25_255, "25.26k", True, False),
        (25_245, "25.24k", False, True),
        (12_006_300, "12M", True, True),
        (Fraction(1, 2), "1", True, False),
        (Fraction(1, 2), "0", False, True),
        (Decimal("0.845"), "0.85", True, False),
        (2 * 10**30 + 1, "2000000000000000000000.0G", True, True),
    ],
)
def test_agreement_at_the_printed_precision(
    exact: int | Fraction | Decimal, figure: str, rounded: bool, truncated: bool
) -> None:
    assert agrees_rounded(exact, figure) is rounded
    assert agrees_truncated(exact, figure) is truncated


@given(exact_numbers, units)
def test_rounding_is_the_nearest_multiple_and_a_half_goes_away_from_zero(
    exact: int | Fraction | Decimal, unit: Decimal
) -> None:
    rounded = Fraction(round_half_up(exact, unit))
    assert (rounded / Fraction(unit)).denominator == 1
    distance = abs(rounded) - abs(Fraction(exact))
    assert -Fraction(unit) / 2 < distance <= Fraction(unit) / 2
    assert rounded * Fraction(exact) >= 0


@given(exact_numbers, units)
def test_truncation_never_moves_away_from_zero_and_less_than_one_unit(
    exact: int | Fraction | Decimal, unit: Decimal
) -> None:
    truncated = Fraction(truncate(exact, unit))
    assert (truncated / Fraction(unit)).denominator == 1
    assert 0 <= abs(Fraction(exact)) - abs(truncated) < Fraction(unit)
    assert truncated * Fraction(exact) >= 0


@given(counts, figures)
def test_what_printed_writes_is_what_agreement_accepts(count: int, like: str) -> None:
    rounded, truncated = printed(count, like), printed(count, like, truncated=True)
    assert agrees_rounded(count, rounded)
    assert agrees_truncated(count, truncated)
    assert parse_printed(rounded)[1] == parse_printed(truncated)[1] == parse_printed(like)[1]
    # Only one figure of a given precision agrees.
    assert agrees_rounded(count, like) == (parse_printed(rounded)[0] == parse_printed(like)[0])


@given(figures)
def test_a_figure_prints_as_itself(figure: str) -> None:
    value, _ = parse_printed(figure)
    assert parse_printed(printed(value, figure)) == parse_printed(figure)
    assert agrees_rounded(value, figure)
    assert agrees_truncated(value, figure)
    assert deviation_percent(value, figure) == 0 if value else True


@pytest.mark.parametrize(
    ("value", "like", "rounded", "truncated"),
    [
        (18_886, "18.8K", "18.9K", "18.8K"),
        (25_255, "25.26 k", "25.26 k", "25.25 k"),
        (17_044_300, "17M", "17M", "17M"),
        (394_134_560, "0.39G", "0.39G", "0.39G"),
        (18_694, "1,000", "18,694", "18,694"),
        (0, "0.0M", "0.0M", "0.0M"),
        (-49, "0.0K", "0.0K", "0.0K"),
        (-50, "0.0K", "-0.1K", "0.0K"),
    ],
)
def test_printing_like_a_figure(value: int, like: str, rounded: str, truncated: str) -> None:
    assert printed(value, like) == rounded
    assert printed(value, like, truncated=True) == truncated


def test_deviation_is_signed_and_relative_to_the_published_figure() -> None:
    assert deviation_percent(2_979_300_000, "2.99G").quantize(Decimal("0.001")) == Decimal("-0.358")
    assert deviation_percent(110, "100") == Decimal(10)
    assert deviation_percent(Fraction(1, 3), "1") == Decimal("-66.66666666666666666666666667")
    with pytest.raises(SettingError, match=r"'0\.0M'.*zero"):
        deviation_percent(3, "0.0M")


def test_the_ambient_decimal_context_changes_nothing() -> None:
    count, figure = 123_456_789_012_345, "123456.789012345G"
    with localcontext() as context:
        context.prec = 2
        assert parse_printed(figure)[0] == Decimal(count)
        assert agrees_rounded(count, figure)
        assert not agrees_rounded(count + 1, figure)
        assert printed(count, figure) == figure
        assert deviation_percent(101_234_567, "100M") == Decimal("1.234567")


@pytest.mark.parametrize("value", [18.8, True, Decimal("NaN"), Decimal("Infinity"), "18"])
def test_inexact_values_are_refused(value: Any) -> None:
    for question in (agrees_rounded, agrees_truncated, deviation_percent, printed):
        with pytest.raises(SettingError):
            question(value, "18.8K")


@pytest.mark.parametrize("unit", [0, 2, -10, Fraction(1, 5), Fraction(10, 3)])
def test_a_unit_that_is_no_power_of_ten_is_refused(unit: int | Fraction) -> None:
    with pytest.raises(SettingError, match="power of ten"):
        round_half_up(5, unit)
