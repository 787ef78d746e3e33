from __future__ import annotations

import pytest

from e4profile.conventions import CONVENTIONS, MAC_KINDS, NORM_KINDS, convention
from e4profile.errors import UnknownNameError

OPERATIONS = {
    "convolution": 1000, "linear": 200, "aggregation": 30, "attention": 7, "batch_norm": 11, "group_norm": 13,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("macs", 1237),
        ("flops", 2474),
        ("printed", 1200 + 5 * 24),
        ("fvcore", 1200 + 2 * 11 + 5 * 13),
        ("convolution", 1000),
    ],
)
def test_what_is_counted_as_what(name: str, total: int) -> None:
    assert convention(name).total(OPERATIONS) == total


def test_a_kind_that_a_convention_does_not_name_weighs_nothing() -> None:
    assert all(one.total({"no such kind": 5}) == 0 for one in CONVENTIONS.values())


def test_kinds_are_disjoint_and_every_convention_explains_itself() -> None:
    assert not set(MAC_KINDS) & set(NORM_KINDS)
    for name, one in CONVENTIONS.items():
        assert one.name == name
        assert one.meaning


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean macs"):
        convention("mac")
