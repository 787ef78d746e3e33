"""What a network declares of its inputs and outputs: any layout of axes, any group, one field for each tensor."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from other_groups import C6, D6, Again, Hexagonal, Permutations, Shifts, UpsideDown
from program import Run, says
from torch import Tensor, nn

import e4profile
from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import FiniteGroup, Group, as_group
from e4profile.layers import FieldBatchNorm2d, GroupConv2d, GroupMaxPool, LiftingConv2d
from e4profile.subjects.inputs import Example
from e4profile.witnesses.equivariance.fields import (
    act,
    declared_from,
    fields_by_index,
    group_axis,
    layout_of,
    paths_of,
    same_motion,
)
from e4profile.witnesses.equivariance.report import EQUIVARIANT, NOT_EQUIVARIANT
from e4profile.witnesses.equivariance.witness import witness

D4 = Group(4, mirrors=True)
LAYOUTS = {
    "B (c A) h w": lambda x: x.flatten(1, 2),
    "B A c h w": lambda x: x.transpose(1, 2),
    "B h w (c A)": lambda x: x.permute(0, 3, 4, 1, 2).flatten(3),
    "B h w (A c)": lambda x: x.permute(0, 3, 4, 2, 1).flatten(3),
    "(B A) c h w": lambda x: x.transpose(1, 2).flatten(0, 1),
    "w B h A c": lambda x: x.permute(4, 0, 3, 2, 1),
    "B (h=4 w) c A": lambda x: x.permute(0, 3, 4, 1, 2).flatten(1, 2),
}


@pytest.mark.parametrize("group", [D4, Shifts(), UpsideDown()], ids=str)
@pytest.mark.parametrize("text", LAYOUTS)
def test_a_layout_moves_as_the_field_that_it_rearranges(text: str, group: FiniteGroup) -> None:
    regular = torch.randn(2, 3, group.order, 4, 4 if group == D4 else 8)
    arranged = LAYOUTS[text]
    for element in group.elements:
        moved = act(regular.flatten(1, 2), group, element, "regular").view(regular.shape)
        assert torch.equal(act(arranged(regular), group, element, text), arranged(moved))
    tokens = regular[:, :, 0].flatten(2).transpose(1, 2)
    expected = act(regular[:, :, 0], group, 1, "trivial").flatten(2).transpose(1, 2)
    assert torch.equal(act(tokens, group, 1, "B (h=4 w) c"), expected)
    assert torch.equal(act(regular, group, 1, "B c d e f"), regular)


@pytest.mark.parametrize("group", [D4, C6], ids=str)
def test_an_axis_that_is_a_sum_moves_part_by_part(group: FiniteGroup) -> None:
    parts = {"(2 A)": 2 * group.order, "(c A:E1)": 6, "(A/1)": len(group.cosets([1])), "(3)": 3}
    names = [name.replace("E1", next(one.name for one in group.irreps if one.dimension == 2)) for name in parts]
    features = torch.randn(2, sum(parts.values()), 3, 3)
    text = f"B ({' + '.join(name.strip('()') for name in names)}) h w"
    for element in group.elements:
        pieces = zip(names, features.split(list(parts.values()), 1), strict=True)
        expected = torch.cat([act(piece, group, element, f"B {name} h w") for name, piece in pieces], 1)
        assert torch.equal(act(features, group, element, text), expected)
    tokens = torch.randn(2, 10, 4)
    moved = act(tokens, group, 1, "B (1 + h w) c")
    assert torch.equal(moved[:, :1], tokens[:, :1])
    assert torch.equal(moved[:, 1:], act(tokens[:, 1:], group, 1, "B (h w) c"))
    for wrong in ("B (2 A + c + d) h w", "B (900 + c) h w", "B (2 A) h w", "B (A + 1) h w"):
        with pytest.raises(SettingError, match="is no"):
            act(features, group, 1, wrong)
    with pytest.raises(SettingError, match="is no axis"):
        layout_of("B (A + ) h w")


@pytest.mark.parametrize("field", ["B (c A/6) h w", "B A/2,6 h w", "B h w (c A:E1)", "B (c A:A2) w", "B h c"])
def test_quotients_and_irreps_are_actions(field: str) -> None:
    shape = {"B (c A/6) h w": (1, 12, 3, 3), "B A/2,6 h w": (1, 2, 3, 3), "B h w (c A:E1)": (1, 3, 3, 4),
             "B (c A:A2) w": (1, 2, 1), "B h c": (1, 1, 2)}[field]  # fmt: skip
    features = torch.randn(shape, dtype=torch.float64)
    for a, b in itertools.product(D6.elements, repeat=2):
        twice = act(act(features, D6, b, field), D6, a, field)
        assert torch.allclose(twice, act(features, D6, D6.product(a, b), field), atol=1e-12)


def test_the_mean_over_a_subgroup_is_a_quotient_field() -> None:
    regular = torch.randn(1, 2, 12, 3, 3)
    cosets = torch.tensor(D6.cosets([6]))

    def pooled(features: Tensor) -> Tensor:
        return features[:, :, cosets].sum(3)

    for element in D6.elements:
        moved = act(regular, D6, element, "B c A h w")
        assert torch.allclose(pooled(moved), act(pooled(regular), D6, element, "B c A/6 h w"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("scalar", UnknownNameError, "unknown field type 'scalar'"),
        ("B (c A", SettingError, r"'\(' is no axis"),
        ("B c,d h w", SettingError, "'c,d' is no axis"),
        ("B A (c A) h w", SettingError, "has the axis A twice"),
        ("B (h=0 w) c", SettingError, "is no axis"),
        ("B h h", SettingError, "has the axis h twice"),
    ],
)
def test_what_is_no_layout_is_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layout_of(text)


def test_a_shape_that_is_no_such_layout_is_refused() -> None:
    for text, shape in {"B (c A) h w": (1, 5, 3, 3), "B (h w) c": (1, 6, 3), "B (c d) h w": (1, 6, 3, 3)}.items():
        with pytest.raises(SettingError, match="is no"):
            act(torch.zeros(shape), as_group("p4"), 1, text)
    with pytest.raises(UnknownNameError, match="irrep of hex-C6"):
        act(torch.zeros(1, 2), C6, 1, "B A:E9")


def test_every_tensor_is_named() -> None:
    output = {"logits": torch.zeros(1), "maps": (torch.zeros(1), [torch.zeros(1)])}
    paths = list(paths_of(output))
    assert paths == ["logits", "maps.0", "maps.1.0"]
    assert fields_by_index({"maps.0": "trivial", 2: "B A"}, paths, "") == {1: "trivial", 2: "B A"}
    assert fields_by_index(["invariant"], paths, "") == {0: "invariant"}
    with pytest.raises(SettingError, match="--field-out map=trivial: there is no tensor 'map' among"):
        fields_by_index({"map": "trivial"}, paths, "--field-out")
    assert declared_from(["maps.0=B (h=4 w) c", "logits=invariant"]) == {
        "maps.0": "B (h=4 w) c", "logits": "invariant"
    }  # fmt: skip
    assert declared_from(["B (h=4 w) c"]) == "B (h=4 w) c"
    assert declared_from(["trivial", "B c"]) == ["trivial", "B c"]
    with pytest.raises(SettingError, match="give every one a name, or none"):
        declared_from(["trivial", "maps=B c"])


class OnHexagon(nn.Module):
    """Zeros outside of the group's map."""

    def __init__(self, group: FiniteGroup, size: int) -> None:
        super().__init__()
        mask = torch.zeros(size * size)
        mask[list(group.positions(size, size))] = 1
        self.register_buffer("mask", mask.view(size, size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class Hexagons(nn.Module):
    """Two outputs: maps with channels last, and logits."""

    def __init__(self, group: FiniteGroup = C6) -> None:
        super().__init__()
        self.mask = OnHexagon(group, 7)
        self.lift = LiftingConv2d(2, 3, 3, group=group, padding=1, bias=True)
        self.norm = FieldBatchNorm2d(3, group=group)
        self.conv = GroupConv2d(3, 2, 3, group=group, padding=1)
        self.pool, self.head = GroupMaxPool(2, group=group), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.mask(self.norm(self.lift(self.mask(x))).relu())
        x = self.mask(self.conv(x))
        return {"maps": x.permute(0, 2, 3, 1), "logits": self.head(self.pool(x).sum((2, 3)))}


class Declared(Hexagons):
    field_in = "B c h w"
    field_out = {"maps": "B h w (c A)", "logits": "invariant"}


def measured(model: nn.Module, *shape: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return witness(model, Example((torch.randn(shape),)), train_steps=0, **options)


@pytest.mark.parametrize("group", [C6, D6], ids=str)
def test_a_network_declares_the_field_of_each_output(group: FiniteGroup) -> None:
    declared = measured(Declared(group), 1, 2, 7, 7)
    assert declared.verdict == EQUIVARIANT
    assert declared.group == group
    assert "37 of 49 positions of 7x7 are the map" in " ".join(declared.notes)
    assert max(max(errors) for errors in declared.output.values()) < 1e-12
    said = measured(Hexagons(group), 1, 2, 7, 7, field_out=["B h w (c A)", "B c"])
    assert said.verdict == EQUIVARIANT
    wrong = measured(Declared(group), 1, 2, 7, 7, field_out={"maps": "B h w (A c)", "logits": "invariant"})
    assert wrong.verdict == NOT_EQUIVARIANT


class Beside(nn.Module):
    """A regular field, and the image beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.lift = OnHexagon(C6, 7), LiftingConv2d(2, 3, 3, group=C6, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mask(x)
        return torch.cat([self.lift(x), x], 1)


def test_fields_of_two_kinds_in_one_tensor() -> None:
    assert measured(Beside(), 1, 2, 7, 7, field_out="B (3 A + c) h w").verdict == EQUIVARIANT
    assert measured(Beside(), 1, 2, 7, 7, field_out="B (c + 3 A) h w").verdict == NOT_EQUIVARIANT


def test_a_layer_that_reads_beyond_the_hexagon_breaks_and_says_so() -> None:
    network = nn.Sequential(OnHexagon(C6, 7), LiftingConv2d(1, 1, 3, group=C6, padding=1),
                            GroupConv2d(1, 1, 3, group=C6, padding=1))  # fmt: skip
    found = measured(network, 1, 1, 7, 7)
    assert [layer.path for layer in found.broken] == ["2"]
    assert "reads what lies outside of the map of hex-C6" in " ".join(found.findings)
    # a valid convolution of a hexagon reads nothing but the hexagon
    valid = nn.Sequential(LiftingConv2d(1, 1, 3, group=C6), GroupConv2d(1, 1, 3, group=C6))
    assert measured(valid, 1, 1, 7, 7, field_in="trivial", field_out="regular").verdict == EQUIVARIANT


def test_layers_of_a_subgroup_share_its_elements() -> None:
    found = measured(Declared(C6), 1, 2, 7, 7, group=D6)
    assert found.verdict != EQUIVARIANT
    assert "layers of hex-C6 are compared under the elements that they share with hex-D6" in found.notes
    assert [error is None for error in found.layers[0].errors["at_init"]] == [False] * 6 + [True] * 6


class Torus(nn.Module):
    """A convolution on a torus: the margin is the other end."""

    field_out = "B (c A) h w"

    def __init__(self) -> None:
        super().__init__()
        self.lift = LiftingConv2d(1, 2, 3, group=Shifts())
        self.conv = GroupConv2d(2, 2, 3, group=Shifts())

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.lift, self.conv):
            x = conv(F.pad(x, (1, 1, 1, 1), mode="circular"))
        return x


def test_shifts_of_a_torus() -> None:
    found = measured(Torus(), 1, 1, 4, 8)
    assert found.verdict == EQUIVARIANT
    # a margin is no torus: the layers are not compared by themselves
    assert [layer.worst("at_init") for layer in found.layers] == [None, None]
    assert "shifts moves every position of a 6x10 map out of it" in str(found.layers[0].reason)
    with pytest.raises(SettingError, match="shifts moves every position of a 4x6 map"):
        measured(Torus(), 1, 1, 4, 6)


class Mirrored(nn.Module):
    """A convolution over time whose kernel reads the same from behind."""

    def __init__(self, even: bool) -> None:
        super().__init__()
        self.weight, self.even = nn.Parameter(torch.randn(3, 2, 5)), even

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + self.weight.flip(-1) if self.even else self.weight
        return F.conv1d(x, weight, padding=2)


def test_a_reflection_of_one_axis() -> None:
    line = {"group": UpsideDown(), "field_in": "B c h", "field_out": "B c h"}
    assert measured(Mirrored(even=True), 1, 2, 9, **line).verdict == EQUIVARIANT
    assert measured(Mirrored(even=False), 1, 2, 9, **line).verdict == NOT_EQUIVARIANT


class Tokens(nn.Module):
    """A transformer's block on (B, T, C), of which half the channels change their sign under a flip."""

    def __init__(self, positions: bool) -> None:
        super().__init__()
        self.even, self.odd = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.positions = nn.Parameter(torch.randn(1, 12, 4)) if positions else None

    def forward(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        even = even if self.positions is None else even + self.positions
        attended = self.attention(even, even, even, need_weights=False)[0]
        return self.even(attended), torch.tanh(self.odd(odd)) * attended


def test_flips_of_tokens_with_a_sign() -> None:
    flips = Again(Group(1, mirrors=True))
    example = Example((torch.randn(2, 12, 4), torch.randn(2, 12, 4)))
    fields = ["B (h=3 w) c", "B (h=3 w) (c A:A2)"]
    for group, positions in itertools.product((flips, "D1"), (False, True)):
        signs = [one.replace("A2", as_group(group).irreps[1].name) for one in fields]
        options = {"group": group, "field_in": signs, "field_out": signs, "train_steps": 0}
        found = witness(Tokens(positions), example, **options)
        assert found.verdict == (NOT_EQUIVARIANT if positions else EQUIVARIANT)
    assert witness(Tokens(False), example, **{**options, "field_out": fields[0]}).verdict == NOT_EQUIVARIANT


class Still(Hexagonal):
    """Moves nothing."""

    def act_on_offset(self, element: int, offset: tuple[int, int]) -> tuple[int, int]:
        return offset


class Halved(Hexagonal):
    """Half a turn for every element that is odd: the action of another group than its products say."""

    def act_on_offset(self, element: int, offset: tuple[int, int]) -> tuple[int, int]:
        return (-offset[0], -offset[1]) if element % 2 else offset


class Backwards(Hexagonal):
    """Turns the offsets, and the maps the other way round."""

    def act_on_position(self, element: int, position: Any, size: Any) -> Any:
        return super().act_on_position(self.inverse(element), position, size)


class Lazy(Group):
    """Moves no map, whatever its offsets do."""

    def act_on_grid(self, images: Tensor, element: int) -> Tensor:
        return torch.zeros_like(images)


class Constant(Hexagonal):
    """Fills maps with their first value."""

    def map_permutation(self, element: int, rows: int, columns: int) -> tuple[int, ...]:
        return (0,) * (rows * columns)


class Swapped(Group):
    """Turns stencils the wrong way."""

    def stencil_permutation(self, element: int, kernel: int) -> tuple[int, ...]:
        return super().stencil_permutation(self.inverse(element), kernel)

    def lifting_index(self, kernel: int) -> Any:
        return tuple(self.stencil_permutation(a, kernel) for a in self.elements)


class Fixed(Group):
    """Moves no position of a map."""

    def act_on_position(self, element: int, position: Any, size: Any) -> Any:
        return position


@pytest.mark.parametrize(
    "wrong", [Still(), Halved(), Backwards(), Swapped(4), Fixed(4)], ids=lambda one: type(one).__name__
)
def test_a_wrong_action_never_shows_equivariance(wrong: FiniteGroup) -> None:
    network = nn.Sequential(OnHexagon(wrong, 7), LiftingConv2d(1, 2, 3, group=wrong, padding=1), OnHexagon(wrong, 7))
    assert measured(network, 1, 1, 7, 7, field_out="regular").verdict != EQUIVARIANT
    assert measured(Declared(C6), 1, 2, 7, 7, group=wrong).verdict != EQUIVARIANT


def test_tensors_are_moved_by_positions_and_by_nothing_else() -> None:
    image = torch.randn(1, 1, 7, 7)
    assert torch.equal(act(image, Constant(), 1, "trivial"), act(image, C6, 1, "trivial"))
    turned = measured(Declared(C6), 1, 2, 7, 7, group=Constant())
    assert turned.verdict == EQUIVARIANT
    assert "hex-C6 defines map_permutation, which is not used: act_on_position moves maps" in turned.notes
    assert not any("nothing moves" in note for note in turned.notes)
    plain = nn.Conv2d(1, 4, 3, padding=1)
    assert measured(plain, 1, 1, 7, 7, group=Lazy(4), field_out="regular").verdict == NOT_EQUIVARIANT
    assert measured(plain, 1, 1, 7, 7, group=Lazy(4), field_out="trivial").verdict == NOT_EQUIVARIANT


class Outside(OnHexagon):
    """Everything but the hexagon."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 - self.mask)


def test_what_lies_outside_of_the_map_proves_nothing() -> None:
    found = measured(Outside(C6, 7), 1, 1, 7, 7, group=C6, field_out="trivial")
    assert found.verdict == "not comparable: the output does not depend on the input"
    channels = Permutations(((1, 2, 0),))
    mixed = measured(GroupConv2d(1, 1, 3, group=channels, padding=1), 1, 3, 5, 5)
    assert "on maps of 5x5 nothing moves under element 1, element 2 of permutations of 3" in mixed.notes


def test_a_field_may_be_of_another_group_than_the_one_that_acts() -> None:
    lift = LiftingConv2d(1, 2, 3, group="p4m", padding=1)
    assert measured(lift, 1, 1, 5, 5, group="p4", field_out="B (c A) h w of p4m").verdict == EQUIVARIANT
    assert measured(lift, 1, 1, 5, 5, group="p4", field_out="B (A c) h w of p4m").verdict == NOT_EQUIVARIANT
    with pytest.raises(UnknownNameError, match="unknown group 'p9m'"):
        measured(lift, 1, 1, 5, 5, group="p4", field_out="B (c A) h w of p9m")


NET = """
import sys
sys.path.insert(0, {here!r})
import e4profile
from other_groups import D6
from test_fields import Hexagons
e4profile.register_group(D6, "d6x")
def build(): return Hexagons(D6)
"""


def test_the_command_line_takes_registered_groups_and_fields_by_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from e4profile.groups import names

    monkeypatch.setattr(names, "_registered", {})
    file = tmp_path / "hexagons.py"
    file.write_text(NET.format(here=str(Path(__file__).parent)), encoding="utf-8")
    target = ("equivariance", f"{file}:build", "--input", "1x2x7x7", "--train-steps", 0)
    fields = ("--field-out", "maps=B h w (c A)", "--field-out", "logits=invariant")
    found = run(*target, "--group", "d6x", *fields)
    assert found.code == 0, found.err
    assert "element 11" in found.out
    assert run(*target, "--group", "d6x", *fields[:2], "--field-out", "logits=B A:E1").code == 2
    refused = run(*target, "--group", "d6x", "--field-out", "map=B h w (c A)")
    assert (refused.code, says(refused.err, "--field-out map", "among maps, logits")) == (2, True)
    frame = e4profile.check_equivariance(f"{file}:build", (1, 2, 7, 7), group="d6x", train_steps=0)
    assert not frame.attrs["verdict"].startswith(EQUIVARIANT)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 4, 4, 5, 5), 2), ((2, 4, 3, 5, 5), 1), ((2, 3, 4, 5, 5), 2), ((2, 4, 4), 2), ((2, 4, 3), None)],
)
def test_the_elements_of_a_regular_field_come_behind_its_channels_where_both_fit(shape, axis):
    assert group_axis(shape, 4) == axis


def test_an_element_that_moves_offsets_as_another_does_is_not_told_from_it():
    @dataclass(frozen=True)
    class Twice(FiniteGroup):
        name: str = "twice"
        order: int = 4

        def product(self, first, second):
            return (first + second) % 4

        def act_on_offset(self, element, offset):
            return (-offset[0], -offset[1]) if element % 2 else offset

    assert same_motion(Group(4), Twice(), 1) == 2
    assert same_motion(Twice(), Group(2), 1) is None
