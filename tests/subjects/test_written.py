from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e4profile.errors import SettingError
from e4profile.questions.options import overrides
from e4profile.subjects.inputs import parse_input
from e4profile.subjects.written import (
    COUNT,
    DURATION,
    SIZE,
    Quantity,
    parse_count,
    parse_duration,
    parse_size,
    parse_varied,
    plain_value,
    quantity_of,
    size_unit,
)

PARSERS = {"count": parse_count, "size": parse_size, "duration": parse_duration}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None), ("none", None), ("null", None), ("True", True), ("true", True), ("False", False), ("64", 64),
        ("[1, 2]", [1, 2]), ('"None"', "None"), ("gelu", "gelu"), ("", ""), ("1\nx = 2", "1\nx = 2"),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: object) -> None:
    found = overrides([f"key={text}"])["key"]
    assert (type(found), found) == (type(value), value)
    assert parse_input(f"key:={text}").value == value
    if text and value not in (None, "") and not isinstance(value, list):
        assert parse_varied(f"key={text},None").values == (value, None)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("width", None), ("width=8..10", (8, 9, 10)), ("width=8..20..4", (8, 12, 16, 20)), ("w = 1, 2", (1, 2)),
        ("act=relu,gelu", ("relu", "gelu")), ("norm=true,false", (True, False)),
        ("widths=[1,2],[3,4]", ([1, 2], [3, 4])),
    ],
)  # fmt: skip
def test_what_is_varied_is_read(text, given):
    assert parse_varied(text).given == given


@pytest.mark.parametrize("text", ["", "=3", "width=", "width=9..8", "width=1..9..0", "width=a..b", "width=1,1",
                                  "width=1..99999999"])  # fmt: skip
def test_what_cannot_be_varied_is_refused(text):
    with pytest.raises(SettingError, match="--vary: "):
        parse_varied(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("25210", 25210), ("25k", 25000), ("18.8K", 18800), ("11.69M", 11690000), ("40m", 40 * 10**6), ("1,234", 1234),
        ("1e6", 10**6), ("1.5E3 k", 1500000), (" 3 G ", 3 * 10**9), ("2T", 2 * 10**12), ("+7", 7), (7, 7),
    ],
)  # fmt: skip
def test_counts(text: str | int, count: int) -> None:
    found = parse_count(text, "--params")
    assert (found, type(found)) == (count, int)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2**31), ("2gib", 2**31), ("2 GB", 2 * 10**9), ("2G", 2 * 10**9), ("20 MB", 2 * 10**7), ("4k", 4000),
        ("0.5KiB", 512), ("1.1 kib", 1126), (512, 512), ("512b", 512), ("1e3MiB", 1000 * 2**20), ("1TiB", 2**40),
    ],
)  # fmt: skip
def test_sizes(text: str | float, size: int) -> None:
    assert parse_size(text, "--fits") == size
    assert parse_size(str(text), "saved_bytes_max", in_bytes=True) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30ms", 0.03), ("30 MS", 0.03), ("0.5s", 0.5), (".5 s", 0.5), ("250us", 0.00025), ("250 µs", 0.00025),
        ("250μs", 0.00025), ("2min", 120.0), ("1h", 3600.0), ("7ns", 7e-9), ("1e3ms", 1.0), (0.25, 0.25), (1e-6, 1e-6),
    ],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text, "--fits") == seconds


@pytest.mark.parametrize(
    ("kind", "text", "wrong"),
    [
        ("count", "nan", "is not a number"), ("count", "-inf", "is not finite"), ("count", float("nan"), "is not a"),
        ("count", "-25k", "must be positive"), ("count", "0", "must be positive"), ("count", "3Q", "unit 'q'"),
        ("count", "0.5", "must be a positive whole number"), ("count", "1.2345k", "must be a positive whole number"),
        ("count", "12ms", "is a time, not a count"), ("count", "2GiB", "is a size, not a count"),
        ("count", "3,0", "cannot be read"), ("count", "1.2.3", "cannot be read"), ("count", "", "cannot be read"),
        ("count", "many", "cannot be read"), ("count", True, "cannot be read"), ("count", "k", "cannot be read"),
        ("count", "1e999999999", "is out of range"), ("count", "1e9999999999999999999999", "is out of range"),
        ("size", "0.5B", "must be at least one byte"), ("size", "-1GiB", "must be positive"),
        ("size", "50", "without its unit"), ("size", "5ms", "is a time, not a size"),
        ("size", "2PB", "unit 'pb'"), ("size", "nan GiB", "cannot be read"),
        ("duration", "30", "is a time without its unit"), ("duration", "5k", "is a count, not a time"),
        ("duration", "0s", "must be positive"), ("duration", "-1ms", "must be positive"),
        ("duration", "inf s", "is not finite"), ("duration", "3 hours", "unit 'hours'"),
        ("duration", float("inf"), "is not finite"), ("duration", -1.0, "must be positive"),
        ("count", "9" * 309, "out of range"), ("size", "9" * 309 + "B", "out"), ("duration", "9" * 309 + "s", "out"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_value_what_is_wrong_and_the_forms(kind: str, text: str | float, wrong: str) -> None:
    with pytest.raises(SettingError) as refused:
        PARSERS[kind](text, "--limit")
    said = str(refused.value)
    assert said.startswith(f"--limit (={str(text)[:40]}")
    assert wrong in said
    assert said.endswith({"count": "1e9", "size": "50B", "duration": "2min"}[kind])
    assert len(said) < 200
    assert "\n" not in said


def test_a_unit_says_what_is_measured() -> None:
    found = [quantity_of(text) for text in ("12ms", "2GiB", "25k", "25", "r18", "3 parsecs")]
    assert found == [DURATION, SIZE, COUNT, COUNT, None, None]


READ = {"count": (COUNT, parse_count), "size": (SIZE, parse_size), "duration": (DURATION, parse_duration)}


@st.composite
def written(draw: st.DrawFn, quantity: Quantity) -> tuple[str, Fraction]:
    """A text, and its exact value."""
    unit, size = draw(st.sampled_from(sorted(quantity.units.items())))
    number = draw(st.decimals(min_value="0.001", max_value="1e9", places=3))
    case = draw(st.sampled_from([str, str.upper]))
    return f"{number:f}{draw(st.sampled_from(['', ' ']))}{case(unit)}", Fraction(number) * size


@pytest.mark.parametrize("kind", READ)
@given(data=st.data())
def test_what_is_written_is_read_back_and_keeps_its_order(kind: str, data: st.DataObject) -> None:
    quantity, parse = READ[kind]
    pairs = [data.draw(written(quantity)) for _ in range(2)]
    read = []
    for text, exact in pairs:
        lowest = {"count": exact.denominator == 1, "size": exact >= 1, "duration": True}[kind]
        if not lowest:
            with pytest.raises(SettingError):
                parse(text, "x")
            return
        read.append(parse(text, "x"))
        assert read[-1] == {"count": exact, "size": int(exact), "duration": float(exact)}[kind]
    (_, first), (_, second) = pairs
    assert (read[0] <= read[1]) or first > second


def test_numbers_of_more_digits_than_python_reads_are_refused() -> None:
    digits = "9" * 5000
    sixteens = f"0x{'f' * 5000}"
    for text in (digits, f"[1, {digits}]", sixteens, f"{{a = [{sixteens}]}}", str(2**64)):
        with pytest.raises(SettingError, match="holds a number that is too long"):
            plain_value(text)
    assert plain_value(str(2**64 - 1)) == 2**64 - 1
    with pytest.raises(SettingError, match="must be a range of whole numbers"):
        parse_varied(f"width=1..{digits}")


@pytest.mark.parametrize(
    ("text", "unit"),
    [("50MB", "MB"), ("50 mib", "MiB"), ("80G", "GB"), ("3kb", "kB"), ("1e9", ""), ("512b", ""), ("30ms", ""), (7, "")],
)
def test_the_unit_of_a_size_is_known(text: object, unit: str) -> None:
    assert size_unit(text) == unit
