"""What user-defined models are called with."""

from __future__ import annotations

import pytest
import torch

from e4profile import SettingError, UnknownNameError
from e4profile.subjects.inputs import as_example, example_from_specs, parse_input


@pytest.mark.parametrize(
    ("text", "name", "shape", "dtype"),
    [
        ("1x3x8x8", "", (1, 3, 8, 8), None),
        ("image=1x3x8x8", "image", (1, 3, 8, 8), None),
        ("mask=1x1x8x8:bool", "mask", (1, 1, 8, 8), "bool"),
        ("7:int64", "", (7,), "int64"),
        ("t=scalar", "t", (), None),
    ],
)
def test_an_input_is_a_shape(text: str, name: str, shape: tuple[int, ...], dtype: str | None) -> None:
    spec = parse_input(text)
    assert (spec.name, spec.shape, spec.dtype) == (name, shape, dtype)
    assert str(spec) == text


@pytest.mark.parametrize(
    ("text", "value"), [("n:=4", 4), ("n:=true", True), ("n:=[1, 2]", [1, 2]), ("n:=word", "word")]
)
def test_an_input_may_be_a_plain_value(text: str, value: object) -> None:
    spec = parse_input(text)
    assert (spec.name, spec.shape, spec.value) == ("n", None, value)


@pytest.mark.parametrize("text", ["", "axb", "1x3x", "image=", "=1x3", "1x0x3", "-1x3", "1,3,8,8", ":=3"])
def test_bad_inputs_are_named(text: str) -> None:
    with pytest.raises(SettingError, match="--input"):
        parse_input(text)


def test_an_unknown_dtype_has_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean.*float32"):
        parse_input("1x3:float31")


def test_examples_nest_and_repeat() -> None:
    texts = ("2x3", "a.b=2x1:bool", "a.c:=5", "p.1=2x2:int64", "p.0=scalar")
    one, two = (example_from_specs([parse_input(text) for text in texts], torch.float64) for _ in range(2))
    assert torch.equal(one.positional[0], two.positional[0])
    assert one.positional[0].dtype == torch.float64
    assert one.keywords["a"]["b"].all()
    assert one.keywords["a"]["c"] == 5
    assert isinstance(one.keywords["p"], tuple)
    assert one.keywords["p"][0].shape == ()
    assert not one.keywords["p"][1].any()
    assert one.single_shape is None
    with pytest.raises(SettingError, match="twice"):
        example_from_specs([parse_input("a=1x2"), parse_input("a=1x3")], torch.float32)


def test_inputs_of_a_library_call() -> None:
    assert as_example((1, 3, 4, 4), torch.float32).single_shape == (1, 3, 4, 4)
    assert as_example(torch.zeros(2, 5), torch.float32).single_shape == (2, 5)
    several = as_example([(1, 3), torch.zeros(2), 7], torch.float32)
    assert [getattr(one, "shape", one) for one in several.positional] == [(1, 3), (2,), 7]
    named = as_example({"image": (1, 3), "n": 2}, torch.float16)
    assert named.keywords["image"].dtype == torch.float16
    assert named.keywords["n"] == 2
    with pytest.raises(SettingError, match="input_shape"):
        as_example("1x3", torch.float32)


def test_a_value_nested_without_end_is_refused() -> None:
    from e4profile.questions.options import overrides

    deep = "[" * 100_000
    with pytest.raises(SettingError, match="the value of key is nested too deeply"):
        overrides([f"key={deep}"])
    with pytest.raises(SettingError, match="the value of key is nested too deeply"):
        parse_input(f"key:={deep}")
