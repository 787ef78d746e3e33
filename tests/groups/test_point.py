from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import GRID_EXACT, Group, as_group
from e4profile.layers import LAYERS, E4Conv2d, GroupConv2d, LiftingConv2d, PointwiseConv2d

groups = st.builds(Group, st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12]), st.booleans())
exact = pytest.mark.parametrize("group", GRID_EXACT, ids=str)


@given(groups, st.data())
def test_group_axioms(group: Group, data: st.DataObject) -> None:
    element = st.sampled_from(list(group.elements))
    a, b, c = data.draw(element), data.draw(element), data.draw(element)
    product = group.product
    assert product(a, b) in group.elements
    assert product(product(a, b), c) == product(a, product(b, c))
    assert product(0, a) == product(a, 0) == a
    assert product(a, group.inverse(a)) == product(group.inverse(a), a) == 0
    assert group.product_table[a][b] == product(a, b)


@given(groups)
def test_every_row_and_column_of_the_product_table_is_a_permutation(group: Group) -> None:
    everything = list(group.elements)
    assert all(sorted(row) == everything for row in group.product_table)
    assert all(sorted(column) == everything for column in zip(*group.product_table, strict=True))


@given(groups, st.data())
def test_matrices_multiply_like_elements(group: Group, data: st.DataObject) -> None:
    a, b = (data.draw(st.sampled_from(list(group.elements))) for _ in range(2))
    left, right, both = (torch.tensor(group.matrix(e), dtype=torch.float64) for e in (a, b, group.product(a, b)))
    assert torch.allclose(left @ right, both, atol=1e-12)
    assert float(torch.det(left)) == pytest.approx(-1 if group.split(a)[1] else 1)


def test_dihedral_groups_are_not_their_mirror_image_of_a_cyclic_one() -> None:
    assert Group(4, True).product(1, 4) != Group(4, True).product(4, 1)
    assert len({Group(4).product_table, Group(2, True).product_table, Group(2).product_table}) == 3


@exact
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
def test_the_action_on_a_stencil_is_a_homomorphism_and_the_action_on_a_grid(group: Group, kernel: int) -> None:
    stencil = torch.arange(kernel * kernel)
    for a, b in itertools.product(group.elements, repeat=2):
        after_b = stencil[list(group.stencil_permutation(b, kernel))]
        after_ab = after_b[list(group.stencil_permutation(a, kernel))]
        assert torch.equal(after_ab, stencil[list(group.stencil_permutation(group.product(a, b), kernel))])
    for a in group.elements:
        moved = group.act_on_grid(stencil.view(kernel, kernel), a)
        assert torch.equal(moved.flatten(), stencil[list(group.stencil_permutation(a, kernel))])


@exact
def test_the_actions_on_grids_and_fields_are_homomorphisms(group: Group) -> None:
    torch.manual_seed(0)
    images, fields = torch.randn(2, 3, 4, 5), torch.randn(2, 2 * group.order, 4, 5)
    for a, b in itertools.product(group.elements, repeat=2):
        ab = group.product(a, b)
        assert torch.equal(group.act_on_grid(group.act_on_grid(images, b), a), group.act_on_grid(images, ab))
        assert torch.equal(group.act_on_field(group.act_on_field(fields, b), a), group.act_on_field(fields, ab))


def test_one_rotation_turns_counter_clockwise_and_the_mirror_swaps_left_and_right() -> None:
    image = torch.tensor([[1, 2], [3, 4]])
    assert Group(4).act_on_grid(image, 1).tolist() == [[2, 4], [1, 3]]
    assert torch.equal(Group(4).act_on_grid(image, 1), torch.rot90(image))
    assert Group(1, True).act_on_grid(image, 1).tolist() == [[2, 1], [4, 3]]
    # the mirror acts first, the rotation after it
    assert torch.equal(Group(4, True).act_on_grid(image, 5), torch.rot90(image.flip(-1)))


def test_a_regular_field_moves_to_the_product_with_the_acting_element() -> None:
    group = Group(4, True)
    for g, h in itertools.product(group.elements, repeat=2):
        one_hot = torch.zeros(1, group.order, 1, 1)
        one_hot[0, h] = 1
        assert int(group.act_on_field(one_hot, g).flatten().argmax()) == group.product(g, h)


@pytest.mark.parametrize(
    ("alias", "name", "order"),
    [("z2", "C1", 1), ("p4", "C4", 4), ("p4m", "D4", 8), ("P4M", "D4", 8), ("c2", "C2", 2), ("D1", "D1", 2),
     ("d2", "D2", 4), ("C8", "C8", 8), ("D8", "D8", 16)],
)  # fmt: skip
def test_names(alias: str, name: str, order: int) -> None:
    group = as_group(alias)
    assert (group.name, str(group), group.order) == (name, name, order)
    assert as_group(group) is group
    assert as_group(group.alias) == group


def test_the_axes_that_some_element_reverses_or_exchanges() -> None:
    rows_and_columns = {"C1": (False, False), "D1": (False, True)}
    for group in GRID_EXACT:
        assert group.reversed_axes == rows_and_columns.get(group.name, (True, True))


def test_the_six_grid_exact_groups() -> None:
    assert {group.name for group in GRID_EXACT} == {"C1", "C2", "C4", "D1", "D2", "D4"}
    assert all(group.exact_on_grid for group in GRID_EXACT)
    assert not any(Group(n, m).exact_on_grid for n in (3, 5, 6, 8) for m in (False, True))


@pytest.mark.parametrize("name", ["p5", "C0", "D0", "4", "", "Q8", "C99999", "C-1", "C4 ", "C٤"])
def test_unknown_names_are_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown group") as error:
        as_group(name)
    assert repr(name) in str(error.value)


def test_nearest_names_are_near() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean.* p4m"):
        as_group("p4mm")


@pytest.mark.parametrize("name", ["C8", "D8", "C3"])
def test_groups_off_the_grid_exist_but_grid_exact_layers_refuse_them_saying_why(name: str) -> None:
    group = as_group(name)
    degrees = f"{360 / group.rotations:g} degrees"
    for build in (
        lambda: LiftingConv2d(1, 2, 3, group=name),
        lambda: GroupConv2d(1, 2, 3, group=group),
        lambda: E4Conv2d(2, 2, 3, group=name),
        lambda: PointwiseConv2d(2, 2, group=name, stride=2),
        lambda: group.act_on_grid(torch.zeros(2, 2), 0),
        lambda: group.stencil_permutation(0, 3),
    ):
        with pytest.raises(SettingError, match="maps the square grid onto itself") as error:
            build()
        assert degrees in str(error.value)
        assert name in str(error.value)
    assert LAYERS["FieldBatchNorm2d"](2, group=name).group == group


def test_values_out_of_range_are_named() -> None:
    with pytest.raises(SettingError, match=r"element \(=4\) must be in 0..3"):
        Group(4).product(0, 4)
    with pytest.raises(SettingError, match=r"element \(=-1\)"):
        Group(4).inverse(-1)
    with pytest.raises(SettingError, match=r"group order \(=4\) must divide the channels \(=6\)"):
        Group(4).act_on_field(torch.zeros(1, 6, 2, 2), 1)
    with pytest.raises(SettingError, match=r"group order \(=2000\)"):
        as_group("D1000")
    assert (Group(256).order, Group(128, True).order) == (256, 256)
    for rotations, mirrors in ((257, False), (129, True)):
        with pytest.raises(SettingError, match="at most 256"):
            Group(rotations, mirrors)
    with pytest.raises(SettingError, match=r"kernel \(=100001\) must be at most"):
        Group(4).stencil_permutation(0, 100001)
    assert len(Group(4).stencil_permutation(1, 255)) == 255**2
    with pytest.raises(SettingError, match=r"kernel \(=256\) must be at most 255"):
        Group(4).stencil_permutation(0, 256)
    for rotations in (0, -4, 2.0, True):
        with pytest.raises(SettingError, match="rotations"):
            Group(rotations)  # type: ignore[arg-type]
