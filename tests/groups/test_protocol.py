"""Groups that are not ours: the layers take them as they take ours, and what is no group is refused."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from other_groups import C6, D6, OTHERS, QUATERNIONS, Again, Hexagonal, Permutations, Shifts, UpsideDown

import e4profile
from e4profile.conventions import MAC_KINDS, NORM_KINDS
from e4profile.errors import SettingError
from e4profile.groups import GRID_EXACT, FiniteGroup, Group, as_group, register_group
from e4profile.groups import names as names_of_groups
from e4profile.layers import LAYERS, Chain
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise
from e4profile.witnesses.memory.closed_form import predict_saved
from e4profile.witnesses.memory.layer_peak import measure_layer_peak, no_peak_reason, predict_layer_peak
from e4profile.witnesses.memory.saved import saved_for_backward

SQUARE = ("AttentiveGroupConv2d", "AttentiveLiftingConv2d", "GroupSelfAttention2d", "LiftingSelfAttention2d",
          "Restriction", "SeparableGroupConv2d", "SteerableConv2d")  # fmt: skip
"""Layers of C_n and D_n of the square grid only. A new layer is tested with every group by being registered."""
TAKEN = sorted(set(LAYERS) - {*SQUARE, "E4Conv2d"})
SIZE = {Shifts(): (5, 8)}


def settings() -> list[Any]:
    """Each layer's settings of the contract at which every offset of a group is whole, without another execution."""
    found = []
    for name, group in itertools.product(TAKEN, OTHERS):
        for sample in LAYERS[name].samples():
            odd = sample.arguments.get("kernel", 1) % 2
            if odd and "execution" not in sample.arguments:
                found.append(pytest.param(name, sample.arguments, group, id=f"{name}-{len(found)}-{group}"))
    return found


def built(name: str, arguments: Any, group: FiniteGroup) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    layer = LAYERS[name](**arguments, group=group)
    fields = arguments.get("c_in", arguments.get("fields"))
    rows, columns = SIZE.get(group, (7, 7))
    channels = fields * (group.order if layer.field_in == "regular" else 1)
    return layer, torch.randn(2, channels, rows, columns)


def on_map(features: torch.Tensor, group: FiniteGroup) -> torch.Tensor:
    rows, columns = features.shape[-2:]
    mask = torch.zeros(rows * columns, dtype=features.dtype)
    mask[list(group.positions(rows, columns))] = 1
    return features * mask.view(rows, columns)


@pytest.mark.parametrize(("name", "arguments", "group"), settings())
def test_a_layer_of_another_group_costs_what_its_closed_form_says_and_is_exact(name, arguments, group):
    layer, features = built(name, arguments, group)
    cost, counted = layer.cost(features.shape), count_dispatch(layer, (features,))
    compared = (*MAC_KINDS, *NORM_KINDS)
    assert counted.operations == {kind: n for kind, n in cost.operations.items() if kind in compared}
    assert cost.total_params == counted.params == sum(one.numel() for one in layer.parameters())
    assert tuple(layer(features).shape) == layer.output_shape(tuple(features.shape))

    image = tuple(features.shape[1:])
    predicted = predict_saved(Chain(layer=layer), image).saved_bytes(2)
    assert predicted == saved_for_backward(layer, image, batch_size=2, device="cpu").saved_bytes
    masks = "kernel" in arguments and arguments["kernel"] > 1 and not group.keeps_windows(arguments["kernel"])
    assert ("moves taps out of the kernel" in (no_peak_reason(layer, (2, *image)) or "")) == masks
    if not masks:
        assert predict_layer_peak(layer, image, batch_size=2) == measure_layer_peak(layer, image, batch_size=2)

    layer = randomise(layer.double().eval(), seed=3)
    # zeros around a torus are no torus, and a part of one is none
    torn = group == Shifts() and (arguments.get("kernel", 1) > 1 or name == "SpatialCrop")
    if layer.inexact_on(tuple(features.shape)) is None and not torn:
        errors = equivariance_errors(layer, on_map(features.double(), group), group, layer.field_in, layer.field_out)
        assert max(errors) < 1e-10


@pytest.mark.parametrize("group", [C6, D6], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_filters_are_the_definition_tap_by_tap(group: FiniteGroup, kernel: int) -> None:
    """W(a^-1 b) acted on by a (He et al. 2021, eq. 5), by offsets alone; a tap that leaves the hexagon is 0."""
    layer = LAYERS["GroupConv2d"](2, 2, kernel, group=group)
    half, order = kernel // 2, group.order
    offsets = list(itertools.product(range(-half, half + 1), repeat=2))
    hexagon = [(r, c) for r, c in offsets if abs(r + c) <= half]
    assert layer.weight.shape == (2, 2, order, len(hexagon)) if kernel > 1 else True
    weight = dict(zip(hexagon, layer.weight.flatten(3).unbind(3), strict=True))
    filters = layer.expand_filters().view(2, order, 2, order, kernel**2)
    for a, b in itertools.product(group.elements, repeat=2):
        back, relative = group.inverse(a), group.product(group.inverse(a), b)
        for tap, offset in enumerate(offsets):
            found = filters[:, a, :, b, tap]
            if offset in hexagon:
                assert torch.equal(found, weight[group.act_on_offset(back, offset)][:, :, relative])
            else:
                assert not found.any()


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
def test_our_groups_are_instances_to_the_last_index(group: Group) -> None:
    again = as_group(Again(group))
    for kernel in (1, 2, 3, 4):
        assert list(again.taps(kernel)) == list(group.taps(kernel))
        assert again.lifting_index(kernel) == group.lifting_index(kernel)
        assert again.filter_bank_index(kernel) == group.filter_bank_index(kernel)
    images, fields = torch.randn(2, 4, 4), torch.randn(1, 2 * group.order, 5, 5)
    for element in group.elements:
        assert torch.equal(again.act_on_grid(images, element), group.act_on_grid(images, element))
        assert torch.equal(again.act_on_field(fields, element), group.act_on_field(fields, element))
    assert again.reversed_axes == group.reversed_axes
    assert again.quotient_permutation(again.order - 1, list(again.elements)) == (0,)


def test_a_large_filter_bank_of_another_group_runs_as_it_says() -> None:
    layer = LAYERS["GroupConv2d"](64, 64, 3, group=Again(Group(4)), padding=1)
    assert predict_layer_peak(layer, (256, 3, 3)) == measure_layer_peak(layer, (256, 3, 3))


def test_the_layers_that_need_more_of_a_group_say_so() -> None:
    for name in SQUARE:
        arguments = next(iter(LAYERS[name].samples())).arguments
        with pytest.raises(SettingError, match=f"{name} takes C_n and D_n of the square grid, not hex-C6"):
            LAYERS[name](**arguments, group=C6)
    with pytest.raises(SettingError, match="E4Conv2d, whose stencils use every tap"):
        LAYERS["E4Conv2d"](2, 2, 3, group=C6)
    with pytest.raises(SettingError, match=r"needs C_n or D_n .*, not hex-D6: omit it, or give execution='bank'"):
        LAYERS["GroupConv2d"](2, 2, 3, group=D6, execution="irreps")
    with pytest.raises(SettingError, match=r"kernel \(=2\): hex-C6 moves every tap out of the kernel; try 3"):
        LAYERS["GroupConv2d"](2, 2, 2, group=C6)
    with pytest.raises(SettingError, match="hex-C6 moves every position of a 4x4 map out of it"):
        C6.positions(4, 4)
    layer = LAYERS["GroupConv2d"](2, 2, 3, group=C6, execution="auto")
    layer.switch("irreps")
    assert not layer.in_irreps((64, 12, 7, 7))
    assert not resolve(layer, example=(1, 12, 7, 7)).has_executions


def test_a_group_outlives_copies_pickles_and_the_meta_device() -> None:
    with torch.device("meta"):
        made = LAYERS["GroupConv2d"](1, 1, 3, group=Hexagonal())
    layer = LAYERS["GroupConv2d"](1, 1, 3, group=C6)
    made.to_empty(device="cpu").load_state_dict(layer.state_dict())
    for other in (made, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.group == C6
        assert set(C6.__getstate__()) == {"mirrors"} < set(vars(C6))
        assert torch.equal(other.expand_filters(), layer.expand_filters())


@dataclass(frozen=True)
class Bad(FiniteGroup):
    """A group of four by a table, of which a test changes one thing."""

    table: Any = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2))
    moves: Any = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
    name: str = "mine"
    order: int = 4

    def product(self, first: int, second: int) -> int:
        found: int = self.table[first][second]
        return found

    @property
    def product_table(self) -> Any:  # type: ignore[override]
        return self.table

    def act_on_offset(self, element: int, offset: tuple[int, int]) -> tuple[int, int]:
        a, b, c, d = self.moves[element]
        return a * offset[0] + b * offset[1], c * offset[0] + d * offset[1]


class Shifted(Bad):
    def act_on_offset(self, element: int, offset: tuple[int, int]) -> tuple[int, int]:
        return offset[0] + element, offset[1]


class Elsewhere(Bad):
    def inverse(self, element: int) -> int:
        return element


class Raising(Bad):
    def product(self, first: int, second: int) -> int:
        raise KeyError(first)


class Out(Bad):
    def act_on_offset(self, element: int, offset: tuple[int, int]) -> tuple[int, int]:
        return {}[offset]


class Fewer(Bad):
    @property
    def elements(self) -> range:
        return range(1)


def loop(*rows: tuple[int, ...]) -> Any:
    return (*rows,)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (Bad(), None),
        (Bad(order=300), r"order \(=300\) must be a whole number from 1 to 256"),
        (Bad(table=loop((0, 1, 2), (1, 2, 0), (2, 0, 1))), r"product_table\[0\] of 3 has 3 products, not 4"),
        (Bad(table=loop((0, 1, 2, 3), (1, 2, 7, 0), (2, 3, 0, 1), (3, 0, 1, 2))), "not closed: 1 \\* 2 is 7"),
        (Bad(table=loop((1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))), r"0 is not the identity: 0 \* 0 = 1"),
        (Bad(table=loop((0, 1, 2, 3), (1, 1, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))), "element 1 has no inverse"),
        (
            Bad(table=loop((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 0, 1))),
            r"not associative: \(1 \* 2\) \* 2 = 0, 1 \* \(2 \* 2\) = 1",
        ),
        (
            Bad(moves=((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))),
            r"2 and then 1 move \(0, 1\) to \(1, 0\), their product 3 to \(-1, 0\)",
        ),
        (Shifted(), r"element 1 is not linear: it moves offset \(-2, -2\) to"),
        (Elsewhere(), r"inverse\(1\) is 1, but 1 \* 3 is 0"),
        (Raising(), r"mine: product\(0, 0\) raised KeyError: 0"),
        (Out(), r"mine: act_on_offset\(0, \(1, 0\)\) raised KeyError: \(1, 0\)"),
        (Fewer(), r"elements \(=\[0\]\) must be 0..3"),
        (replace(Bad(), moves=((1, 0, 0, 1.5),) * 4), "is no \\(row, column\\)"),
        (Group(6), None),
        ("C4", None),
        (4, r"group \(=4\) must be a name or an instance of a class derived from e4profile.groups.FiniteGroup"),
    ],
)
def test_what_is_no_group_is_refused_naming_its_elements(group: Any, message: str | None) -> None:
    if message is None:
        assert as_group(group).order in (4, 6)
        return
    with pytest.raises(SettingError, match=message) as error:
        LAYERS["GroupConv2d"](1, 1, 3, group=group)
    assert "\n" not in str(error.value)


def test_a_class_that_lacks_something_is_named() -> None:
    class Nothing(FiniteGroup):
        pass

    with pytest.raises(SettingError, match="Nothing must define name"):
        as_group(Nothing())

    class Neither(FiniteGroup):
        name, order = "neither", 2

    with pytest.raises(SettingError, match=r"Neither must define product\(first, second\), or product_table"):
        as_group(Neither())

    class Table(FiniteGroup):
        name, order, product_table = "table", 2, np.array([[0, 1], [1, 0]])

        def act_on_offset(self, element: int, offset: Any) -> Any:
            return np.array(offset) * (1 - 2 * element)

    assert as_group(Table()).filter_bank_index(1) == (((0,), (1,)), ((1,), (0,)))
    assert Table().offset_matrix(1) == ((-1, 0), (0, -1))

    @dataclass
    class Changing(Bad.__mro__[1]):  # type: ignore[misc,name-defined]
        name: str = "x"
        order: int = 1

    with pytest.raises(SettingError, match="Changing must be hashable: make its dataclass frozen"):
        as_group(Changing())


def test_a_wrong_action_on_maps_is_named_where_the_map_is_met() -> None:
    class Wrong(Shifts):
        def act_on_position(self, element: int, position: Any, size: Any) -> Any:
            row, column = super().act_on_position(element, position, size)
            return row, column if element != 3 else position[1]

    class Between(Shifts):
        def act_on_position(self, element: int, position: Any, size: Any) -> Any:
            return position[0], position[1] + element / 2

    with pytest.raises(SettingError, match=r"act_on_position\(0, \(0, 0\), \(1, 4\)\) raised TypeError"):
        Between().positions(1, 4)
    with pytest.raises(SettingError, match=r"does not act on maps of 1x4: \d and then \d move position \(0, \d\) to"):
        Wrong().positions(1, 4)


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_of_groups, "_registered", {})
    names_of_groups._of_distributions.cache_clear()


@pytest.mark.usefixtures("no_names")
def test_a_registered_name_is_a_group_everywhere() -> None:
    assert e4profile.register_group(D6, "hexagonal") is D6
    assert as_group("HEX-d6") is as_group("hexagonal") is D6
    assert LAYERS["GroupConv2d"](1, 1, 3, group="hexagonal").group is D6
    assert register_group(Hexagonal(mirrors=True)) == D6
    # as a file that is read once more
    again = dataclass(frozen=True)(type("Hexagonal", (Hexagonal,), {"__qualname__": "Hexagonal"}))(mirrors=True)
    assert again != D6
    assert as_group(register_group(again).name) is again
    assert as_group(register_group(Group(4), "quarters").name) == as_group("quarters") == Group(4)
    with pytest.raises(SettingError, match=r"group name 'hexagonal' already means .*: choose another name"):
        register_group(C6, "hexagonal")
    with pytest.raises(SettingError, match=r"group name 'p4m' already means .*: choose another name"):
        register_group(C6, "p4m")
    with pytest.raises(e4profile.UnknownNameError, match="hex-D6"):
        as_group("hex-D7")


@pytest.mark.usefixtures("no_names")
def test_a_distribution_names_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    points = metadata.EntryPoints(
        metadata.EntryPoint(name, f"other_groups:{value}", names_of_groups.ENTRY_POINTS)
        for name, value in (("c6", "C6"), ("d9", "no_such"), ("d7", "PAIR"))
    )
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: points.select(group=group))
    assert as_group("c6") is as_group("C6") is C6
    with pytest.raises(SettingError, match="group 'd9': entry point 'other_groups:no_such'"):
        as_group("d9")
    assert as_group("C8") == Group(8)
    names_of_groups._of_distributions.cache_clear()


def test_permutations_that_move_no_map_act_on_channels() -> None:
    group = as_group(Permutations(((1, 2, 0),)))
    layer = randomise(LAYERS["GroupConv2d"](1, 2, 3, group=group, padding=1).double(), seed=1)
    assert max(equivariance_errors(layer, torch.randn(1, 3, 4, 5).double(), group, "regular", "regular")) < 1e-10
    assert group.cosets([1]) == ((0, 1, 2),)
    assert QUATERNIONS.cosets([1])[0][0] == 0
    assert UpsideDown().reversed_axes == (True, False)
