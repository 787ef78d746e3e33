"""Costs of many settings at once, each held against the network that is built for it.

``E4PROFILE_SETTINGS=1000`` tries as many settings of every card; without it a few of one card per topology.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import FiniteGroup, Group
from e4profile.layers.containers import trace
from e4profile.layers.many import Columns, Many, Split
from e4profile.networks import NETWORKS
from e4profile.networks.cards import all_cards
from e4profile.subjects.subject import Subject, resolve
from e4profile.witnesses.many_settings import EXACT, FORMULAS, Drawn, NotTogether, cost_of_many, refusal_of

EVERY = int(os.environ.get("E4PROFILE_SETTINGS", "0"))
TOGETHER = 50 if EVERY else 3
NATIVE = {name: card.network for name, card in all_cards().items() if card.network}
ONE_OF_EACH = {network: name for name, network in NATIVE.items()} | {"steerable_resnet": "c4resnet18"}
CARDS = sorted(NATIVE if EVERY else ONE_OF_EACH.values())


def values_of_argument(card: Subject, name: str) -> st.SearchStrategy[Any] | None:
    """Values of an argument, possible and impossible ones; None for one that is left as it is."""
    own = card.argument(name)
    hint = get_type_hints(NETWORKS[card.topology], localns={"Group": Group, "FiniteGroup": FiniteGroup}).get(name)
    if name == "group":
        return st.sampled_from(["z2", "C2", "p4", "D1", "p4m", "C8"])
    literals = [
        value for part in (hint, *get_args(hint)) if typing.get_origin(part) is Literal for value in get_args(part)
    ]
    if literals:
        return st.sampled_from(literals)
    if isinstance(own, bool):
        return st.booleans()
    if name in ("slices", "channels_per_slice", "reduction"):
        return st.sampled_from([1, 2, 3, 4, own])
    if isinstance(own, int):
        sizes = st.sampled_from([own, 1, 2, 3, 4, 6, 8, 12, 16])
        return st.one_of(sizes, st.integers(-1, 40)) if name != "depth" else st.sampled_from([1, 2, own])
    return None


@st.composite
def several_settings(draw: st.DrawFn, card: Subject) -> dict[str, list[Any]]:
    known = {name: values_of_argument(card, name) for name in card.parameters}
    strategies = {name: strategy for name, strategy in known.items() if strategy is not None}
    names = draw(st.lists(st.sampled_from(sorted(strategies)), unique=True, min_size=1, max_size=5))
    return {name: draw(st.lists(strategies[name], min_size=TOGETHER, max_size=TOGETHER)) for name in names}


def check_every_setting(card: Subject, columns: Mapping[str, Any], **how: Any) -> int:
    """Hold every setting against the network built for it; how many could be built."""
    found = cost_of_many(card, columns, **how)
    for index in range(found.size):
        setting = found.setting(index)
        subject = card.with_arguments(setting)
        reason = refusal_of(subject)
        assert found.possible[index] == (reason is None), (setting, reason)
        if reason is not None:
            assert found.refusal(index) == reason
            continue
        shape = (how.get("batch_size", subject.shape[0]), *subject.shape[1:])
        built = Drawn(subject.build_to_count(), shape)
        for name, values in found.quantities.items():
            if found.stated(name)[index]:
                assert int(values[index]) == FORMULAS[name](built), (name, setting)
                continue
            with pytest.raises(SettingError):
                FORMULAS[name](built)
    return int(found.possible.sum())


@pytest.mark.parametrize("name", CARDS)
def test_every_card_costs_what_its_networks_cost_when_they_are_built(name: str) -> None:
    card = resolve(name)

    @settings(
        max_examples=max(1, EVERY // TOGETHER), deadline=None, database=None, derandomize=not EVERY,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(several_settings(card))
    def costs_agree(columns: dict[str, list[Any]]) -> None:
        check_every_setting(card, columns, batch_size=3)

    costs_agree()


NUMBERS = st.lists(st.tuples(*[st.integers(-6, 12)] * 3), min_size=1, max_size=6)
OPERATIONS = ("+", "-", "*", "//", "%", "**2 +", "<", "==", ">=", "min", "round_up", "float", "range", "table")


def calculated(operations: list[tuple[str, int, int]], numbers: list[Any]) -> Any:
    """What code makes of some numbers; the last number, or the error's name."""
    known = [*numbers, 3, 1]
    try:
        for operation, first, second in operations:
            one, other = known[first % len(known)], known[second % len(known)]
            known.append(_calculated(operation, one, other))
    except (ZeroDivisionError, KeyError) as error:
        return type(error).__name__
    return known[-1]


def _calculated(operation: str, one: Any, other: Any) -> Any:
    if operation == "min":
        return min(one, other)
    if operation == "round_up":
        return -(-one // other)
    if operation == "float":
        return int(one * 1.5)
    if operation == "range":
        return len(range(one, other))
    if operation == "table":
        return {0: 7, 1: other, 2: one}[one % 3]
    if operation in ("<", "==", ">="):
        return +eval(f"one {operation} other")
    return eval(f"one {operation} other")


@settings(max_examples=2000 if EVERY else 100, deadline=None)
@given(NUMBERS, st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 9), st.integers(0, 9)), max_size=6))
def test_code_makes_of_many_numbers_what_it_makes_of_each(
    rows: list[tuple[int, ...]], operations: list[tuple[str, int, int]]
) -> None:
    expected = [calculated(operations, list(row)) for row in rows]
    left, found = [np.arange(len(rows))], dict[int, Any]()
    while left:
        part = left.pop()
        columns = Columns({str(i): np.array([rows[at][i] for at in part]) for i in range(3)})
        try:
            made = calculated(operations, list(columns.given.values()))
            values = made.values() if isinstance(made, Many) else [made] * len(part)
            found.update(zip(part.tolist(), values, strict=True))
        except Split as split:
            left += [part[inner] for inner in split.parts]
    assert [found[at] for at in range(len(rows))] == expected


def test_numbers_beyond_64_bits_stay_exact() -> None:
    columns = {"width": np.array([16, 10**7, 3 * 10**8]), "reduction": np.array([2, 4, 1])}
    assert check_every_setting(resolve("e4net"), columns) == 3
    assert cost_of_many(resolve("e4net"), columns, ["macs"]).quantities["macs"].dtype == object


@pytest.mark.parametrize("name", ["e4net", "p4m-e4r18"])
def test_kernels_and_widths_share_a_walk(name: str) -> None:
    sizes = {"kernel": list(range(1, 40, 2)), "width": list(range(8, 168, 8))}
    assert cost_of_many(resolve(name), sizes, ["params", "macs"]).walks == 1


@pytest.mark.parametrize(("name", "width"), [("e4net", 2), ("p4m-r18", 1)])
def test_what_only_a_table_refuses_is_refused_without_it(name: str, width: int) -> None:
    # of kernels beyond 255 no group's action is tabled, and tables are made for built networks alone
    assert check_every_setting(resolve(name), {"kernel": [257, 3], "width": [width, width]}) == 1


def test_a_quantity_that_a_layer_does_not_state_is_missing_where_that_layer_is() -> None:
    found = cost_of_many(resolve("e4net"), {"layer": ["e4", "group"], "width": [8, 8]})
    assert found.possible.tolist() == [True, True]
    assert all(found.stated(name).all() for name in EXACT)
    with pytest.raises(UnknownNameError, match="quantity 'parms'"):
        cost_of_many(resolve("e4net"), {"width": [8]}, ["parms"])
    with pytest.raises(SettingError, match="predicted_s needs the rates"):
        cost_of_many(resolve("e4net"), {"width": [8]}, ["predicted_s"])
    with pytest.raises(SettingError, match="one length"):
        cost_of_many(resolve("e4net"), {"width": [8], "kernel": [3, 5]})


OWN = """
    import torch
    from torch import nn
    from e4profile.layers import Chain, GroupConv2d, LiftingConv2d, Residual

    def net(width=4, kernel=3, blocks=2, group="p4", heads=1):
        if width % heads:
            raise ValueError(f"{heads} heads cannot share {width}")
        wide = int(width * 1.5)
        parts = {
            f"block{i}": Residual(GroupConv2d(wide, wide, kernel, group=group, padding=kernel // 2))
            for i in range(blocks)
        }
        return Chain(lift=LiftingConv2d(3, wide, kernel, group=group, padding=kernel // 2), **parts)

    def reads_values(width=4):
        conv = nn.Conv2d(3, width, 3)
        conv.weight.data = conv.weight / conv.weight.norm()
        return Chain(conv=conv)

    def looks_at_types(width=4):
        return Chain(conv=nn.Conv2d(3, 2 * width if isinstance(width, int) else width, 3))

    class Other(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)

        def forward(self, images):
            return self.conv(images)
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    file = tmp_path / "many_net.py"
    file.write_text(dedent(OWN), encoding="utf-8")
    return file


def test_a_user_defined_network_of_our_containers_is_walked_too(own_file: Path) -> None:
    subject = resolve(f"{own_file}:net", ["1x3x8x8"])
    columns = {
        "width": [4, 5, 6, 8, 9], "kernel": [3, 3, 5, 1, 4], "blocks": [0, 1, 2, 3, 1],
        "group": ["p4", "p4m", "p4", "z2", "p4"], "heads": [1, 2, 3, 2, 1],
    }  # fmt: skip
    assert check_every_setting(subject, columns) == 3


@pytest.mark.parametrize(
    ("builder", "why"),
    [
        ("reads_values", "norm of a tensor's values"),
        ("looks_at_types", "at once is"),
        ("Other", "Other has no closed form"),
    ],
)
def test_a_network_that_does_not_follow_from_sizes_is_not_walked(own_file: Path, builder: str, why: str) -> None:
    with pytest.raises(NotTogether, match=why):
        cost_of_many(resolve(f"{own_file}:{builder}", ["1x3x8x8"]), {"width": [4, 5, 6]})
    # nothing is left behind of how networks are drawn
    assert type(torch.empty(2)) is torch.Tensor


def test_activations_are_what_the_layers_make_when_they_run() -> None:
    card = resolve("z2cnn")
    model = card.build("cpu").train()
    outputs: dict[int, torch.Tensor] = {}
    for module in {step.module for step in trace(model, card.shape)[1]}:
        # held, so that no later map lies where an earlier one lay; a view lies where its map does
        module.register_forward_hook(lambda _, __, made: outputs.update({made.untyped_storage().data_ptr(): made}))
    model(torch.zeros(2, *card.shape[1:]))
    found = cost_of_many(card, {"width": [card.argument("width")]}, ["activations"], batch_size=2)
    assert int(found.quantities["activations"][0]) == sum(made.numel() for made in outputs.values())
