"""The implicit-equivariance objective: what it adds, what it leaves alone, and what a step costs."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from e4profile.cards import Card, all_cards
from e4profile.counters.closed_form import count_closed_form
from e4profile.counters.training_step import measured_training_macs
from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import Group
from e4profile.implicit import (
    act_on_each,
    act_on_plane,
    draw_elements,
    implicit_equivariance_loss,
    implicit_equivariance_parts,
    sampling_group,
)
from e4profile.implicit_table import NETWORKS as IMPLICIT
from e4profile.implicit_table import (
    comparison_row,
    g_cnn_params,
    measured_plain_step,
    measured_step,
    nearest_width,
    objective_name,
)
from e4profile.layers import LiftingConv2d
from e4profile.networks import NETWORKS

CARDS = [card for card in all_cards().values() if card.network in IMPLICIT]
SAMPLING = [("R4", False), ("R8", False), ("R4", True), ("R8", True)]


class Tapped(nn.Module):
    """A layer to tap and a classifier on the mean of its maps."""

    def __init__(self, layer: nn.Module, channels: int, classes: int = 3) -> None:
        super().__init__()
        self.layer, self.classifier = layer, nn.Linear(channels, classes)
        self.taps = ("layer",)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.layer(images).mean((2, 3)))
        return scores


def batch(count: int = 6, channels: int = 4, size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 3, (count,), generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("reflection", [False, True])
def test_an_elementwise_layer_has_no_equivariance_error_at_right_angles(reflection: bool) -> None:
    model = Tapped(nn.ELU(), 4).double()
    images, labels = batch(24)
    parts = implicit_equivariance_parts(
        model,
        images,
        labels,
        group="R4",
        reflection=reflection,
        pool_sizes=(4,),
        beta=1.0,
        generator=seeded(),
    )
    assert len(set(parts.elements)) > 3
    assert parts.equivariance["layer"].item() == 0.0
    assert parts.total.item() == parts.classification.item()


def test_a_lifting_convolution_is_equivariant_to_its_group_and_to_no_larger_one() -> None:
    torch.manual_seed(1)
    model = Tapped(LiftingConv2d(4, 3, 3, group="p4", padding=1), 12).double()
    images, labels = batch(24)

    def error(reflection: bool) -> float:
        parts = implicit_equivariance_parts(
            model,
            images,
            labels,
            group="R4",
            reflection=reflection,
            pool_sizes=(4,),
            beta=1.0,
            generator=seeded(),
        )
        return parts.equivariance["layer"].item()

    assert error(False) < 1e-28
    assert error(True) > 1e-3


def test_a_plain_convolution_has_an_equivariance_error_that_reaches_its_filters() -> None:
    torch.manual_seed(1)
    model = Tapped(nn.Conv2d(4, 8, 3, padding=1), 8).double()
    images, labels = batch()
    parts = implicit_equivariance_parts(
        model, images, labels, group="R4", pool_sizes=(8,), beta=0.5, generator=seeded()
    )
    error = parts.equivariance["layer"]
    assert error.item() > 1e-3
    (gradient,) = torch.autograd.grad(error, [model.layer.weight], retain_graph=True)
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(parts.total, parts.classification + 0.5 * error, rtol=0, atol=0)


def test_the_loss_by_hand() -> None:
    """Written out image by image, with torch.rot90 and a reshape: no code shared with the objective."""
    torch.manual_seed(2)
    model = Tapped(nn.Conv2d(4, 22, 3, padding=1), 22).double()
    images, labels = batch()
    arguments = {"group": "R4", "reflection": True, "ratio": (8, 2, 1), "pool_sizes": (4, 2, 1), "beta": 0.7}
    parts = implicit_equivariance_parts(model, images, labels, **arguments, generator=seeded(5))

    def pool(maps: Tensor) -> Tensor:
        groups = [range(i, i + 4) for i in range(0, 16, 4)] + [(16, 17), (18, 19), (20,), (21,)]
        return torch.stack([maps[list(group)].max(0).values for group in groups])

    def turn(image: Tensor, element: int) -> Tensor:
        mirrored = image.flip(-1) if element >= 4 else image
        return torch.rot90(mirrored, element % 4, (-2, -1))

    def turn_back(image: Tensor, element: int) -> Tensor:
        turned = torch.rot90(image, -(element % 4), (-2, -1))
        return turned.flip(-1) if element >= 4 else turned

    copies = [turn(image, element) for image, element in zip(images, parts.elements, strict=True)]
    errors = []
    for image, copy, element in zip(images, copies, parts.elements, strict=True):
        errors.append(
            (pool(model.layer(image[None])[0]) - turn_back(pool(model.layer(copy[None])[0]), element)) ** 2
        )
    scores = model(torch.cat((images, torch.stack(copies))))
    expected = F.cross_entropy(scores, labels.repeat(2)) + 0.7 * torch.stack(errors).mean()
    actual = implicit_equivariance_loss(model, images, labels, **arguments, generator=seeded(5))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
    assert len(set(parts.elements)) > 2


def test_beta_zero_is_the_plain_loss_on_images_and_copies_and_taps_nothing() -> None:
    torch.manual_seed(2)
    model = Tapped(nn.Conv2d(4, 8, 3, padding=1), 8).double()
    images, labels = batch()
    parts = implicit_equivariance_parts(model, images, labels, group="R8", beta=0, generator=seeded(1))
    group = sampling_group("R8")
    copies = act_on_each(images, group, parts.elements)
    plain = F.cross_entropy(model(torch.cat((images, copies))), torch.cat((labels, labels)))
    assert parts.equivariance == {}
    assert parts.total.item() == plain.item()


@pytest.mark.parametrize(("group", "reflection"), SAMPLING)
def test_with_a_generator_the_loss_is_a_function_of_its_arguments(group: str, reflection: bool) -> None:
    torch.manual_seed(2)
    model = Tapped(nn.Conv2d(4, 8, 3, padding=1), 8).double()
    images, labels = batch()

    def loss(seed: int) -> float:
        return implicit_equivariance_loss(
            model, images, labels, group=group, reflection=reflection, beta=1.0, generator=seeded(seed)
        ).item()

    before = torch.random.get_rng_state()
    assert loss(0) == loss(0)
    assert loss(0) != loss(1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays_behind(fails: bool) -> None:
    class Breaks(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            raise RuntimeError("broken layer")

    model = Tapped(nn.Sequential(nn.Conv2d(4, 8, 3), Breaks()) if fails else nn.Conv2d(4, 8, 3), 8).double()
    model.layer.train(False)
    images, labels = batch()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if fails:
        with pytest.raises(RuntimeError, match="broken layer"):
            implicit_equivariance_loss(model, images, labels, group="R4", beta=1.0)
    else:
        implicit_equivariance_loss(model, images, labels, group="R4", beta=1.0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert [module.training for module in (model, model.layer)] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@given(
    rotations=st.sampled_from((4, 8)), mirrors=st.booleans(), draw=st.data(), size=st.integers(1, 9),
    channels=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_right_angles_and_mirrors_are_exact_and_undone_exactly(
    rotations: int, mirrors: bool, draw: st.DataObject, size: int, channels: int
) -> None:
    group = Group(rotations, mirrors)
    element = draw.draw(
        st.sampled_from([e for e in group.elements if 4 * group.split(e)[0] % rotations == 0])
    )
    images = torch.randn(2, channels, size, size, generator=seeded(7))
    moved = act_on_plane(images, group, element)
    assert torch.equal(act_on_plane(moved, group, group.inverse(element)), images)
    rotation, mirror = group.split(element)
    expected = torch.rot90(images.flip(-1) if mirror else images, 4 * rotation // rotations, (-2, -1))
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("element", Group(8, mirrors=True).elements)
def test_other_angles_turn_a_smooth_image_to_interpolation_error(element: int) -> None:
    """A Gaussian off the centre lands where the element's matrix puts it."""
    size, group = 65, Group(8, mirrors=True)
    axis = torch.arange(size, dtype=torch.float64) - size // 2

    def blob(x: float, y: float) -> Tensor:
        return torch.exp(-((axis[None] - x) ** 2 + (-axis[:, None] - y) ** 2) / 50)

    (a, b), (c, d) = group.matrix(element)
    moved = act_on_plane(blob(11, 4)[None, None], group, element)[0, 0]
    assert (moved - blob(11 * a + 4 * b, 11 * c + 4 * d)).abs().max() < 0.011


def test_exact_elements_of_eight_rotations_agree_with_interpolation() -> None:
    """The interpolating path and the exact one are the same action."""
    group, images = Group(8, mirrors=True), torch.randn(1, 2, 9, 9, dtype=torch.float64, generator=seeded())
    for element in (2, 4, 6, 8, 10, 12, 14):
        (a, b), (c, d) = group.matrix(group.inverse(element))
        theta = torch.tensor([[[a, -b, 0.0], [-c, d, 0.0]]], dtype=torch.float64)
        sampled = F.grid_sample(
            images, F.affine_grid(theta, [1, 2, 9, 9], align_corners=False), align_corners=False
        )
        torch.testing.assert_close(act_on_plane(images, group, element), sampled, rtol=0, atol=1e-12)


@given(elements=st.lists(st.integers(0, 15), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_every_image_gets_its_own_element(elements: list[int]) -> None:
    group = Group(8, mirrors=True)
    images = torch.randn(len(elements), 2, 5, 5, generator=seeded())
    moved = act_on_each(images, group, elements)
    for image, element, own in zip(images, elements, moved, strict=True):
        assert torch.equal(act_on_plane(image[None], group, element)[0], own)


@pytest.mark.parametrize(("name", "reflection"), SAMPLING)
def test_drawn_elements(name: str, reflection: bool) -> None:
    group = sampling_group(name, reflection)
    drawn = draw_elements(group, 4000, seeded())
    frequency = {element: drawn.count(element) / 4000 for element in set(drawn)}
    rotations = 4 if name == "R4" else 7
    pure = [frequency.get(r, 0.0) for r in range(group.rotations)]
    assert sum(share > 0 for share in pure) == rotations
    # eight rotations leave the identity out, unless two flips make up for a half turn: they never do
    assert (frequency.get(0, 0.0) > 0) is (name == "R4")
    assert sum(pure) == pytest.approx(1 / 3 if reflection else 1, abs=0.03)
    assert len(frequency) == (group.order if name == "R4" or reflection else 7) - (
        name == "R8" and reflection
    )


def test_the_flips_are_up_down_and_left_right() -> None:
    group, images = Group(4, mirrors=True), torch.randn(1, 1, 5, 5, generator=seeded())
    assert torch.equal(act_on_plane(images, group, 4), images.flip(-1))
    assert torch.equal(act_on_plane(images, group, 6), images.flip(-2))


def test_the_network_s_own_pool_is_the_default() -> None:
    torch.manual_seed(0)
    model = NETWORKS["basic_cnn"](width=22, ratio=(8, 2, 1), pool_sizes=(4, 2, 1)).double()
    images = torch.randn(3, 1, 28, 28, dtype=torch.float64, generator=seeded())
    labels = torch.tensor([0, 1, 2])

    def errors(**pool: tuple[int, ...]) -> dict[str, float]:
        parts = implicit_equivariance_parts(
            model.eval(), images, labels, group="R4", beta=1.0, generator=seeded(), **pool
        )
        return {path: error.item() for path, error in parts.equivariance.items()}

    assert list(errors()) == [f"unit{i}.elu" for i in range(1, 7)]
    assert errors() == errors(pool_sizes=(4, 2, 1), ratio=(8, 2, 1))
    assert errors() != errors(pool_sizes=(1,))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"group": "R6"}, UnknownNameError, "unknown rotations 'R6'"),
        ({"beta": -1.0}, SettingError, r"beta \(=-1.0\)"),
        ({"beta": math.nan}, SettingError, r"beta \(=nan\)"),
        ({"ratio": (8, 2, 1)}, SettingError, "needs pool_sizes"),
        ({"pool_sizes": (3,)}, SettingError, r"pool size \(=3\)"),
        ({"images": torch.zeros(2, 4, 5, 6)}, SettingError, "5x6"),
        ({"images": torch.zeros(3, 4, 5, 5)}, SettingError, r"\(3, 4, 5, 5\) and \(2,\)"),
    ],
)
def test_errors_name_the_values(change: dict[str, object], error: type[Exception], message: str) -> None:
    model = Tapped(nn.Conv2d(4, 8, 3), 8)
    images, labels = torch.zeros(2, 4, 5, 5), torch.zeros(2, dtype=torch.long)
    arguments: dict[str, object] = {"images": images, "group": "R4", "beta": 1.0, **change}
    with pytest.raises(error, match=message):
        implicit_equivariance_loss(model, labels=labels, generator=seeded(1), **arguments)


def test_taps_must_exist_and_run() -> None:
    images, labels = torch.zeros(2, 4, 5, 5), torch.zeros(2, dtype=torch.long)
    model = Tapped(nn.Conv2d(4, 8, 3), 8)
    model.spare = nn.Identity()
    for taps, message in (
        ((), "declares no taps"),
        (("gone",), "'gone' is not in"),
        (("spare",), "did not run"),
    ):
        model.taps = taps
        with pytest.raises(SettingError, match=message):
            implicit_equivariance_loss(model, images, labels, group="R4", beta=1.0)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("group", "reflection"), SAMPLING)
@pytest.mark.parametrize("name", IMPLICIT)
def test_a_real_step_multiplies_exactly_twice_as_much(name: str, group: str, reflection: bool) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name](width=16, mode=group, reflection=reflection)
    channels, size = (1, 28) if name == "basic_cnn" else (3, 17)
    images, labels = torch.randn(2, channels, size, size), torch.tensor([1, 2])
    plain = measured_training_macs(model, lambda: F.cross_entropy(model(images), labels))
    step = measured_training_macs(
        model,
        lambda: implicit_equivariance_loss(
            model, images, labels, group=group, reflection=reflection, beta=0.1, generator=seeded()
        ),
    )
    assert plain > 0
    assert Fraction(step, plain) == 2


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_full_size_step_multiplies_exactly_twice_as_much(card: Card) -> None:
    assert Fraction(measured_step(card), measured_plain_step(card)) == 2


def test_a_comparison_row_is_exact_and_its_g_cnn_the_nearest() -> None:
    card = all_cards()["basiccnn-r4-2-1"]
    row = comparison_row(card)
    assert row["objective"] == "R4-2-1"
    assert row["group"] == "C4"
    assert row["inference_macs"] == count_closed_form(card.build(), card.input_shape()).macs
    assert row["step_macs"] == row["measured_step_macs"] == 2 * row["measured_plain_step_macs"]
    assert row["step_ratio"] == 2
    for key, value in row.items():
        assert isinstance(value, (int, str, Fraction)), key
    distances = {
        width: abs(g_cnn_params(Group(4), width, 1, 10) - row["params"])
        for width in range(row["gcnn_width"] - 2, row["gcnn_width"] + 3)
    }
    assert min(distances, key=distances.__getitem__) == row["gcnn_width"]
    assert row["gcnn_params"] == g_cnn_params(Group(4), row["gcnn_width"], 1, 10)


@given(
    width=st.integers(1, 12),
    offset=st.integers(-40, 40),
    mirrors=st.booleans(),
    classes=st.sampled_from((10, 10**6)),
)
@settings(max_examples=20, deadline=None)
def test_the_nearest_width_is_nearest(width: int, offset: int, mirrors: bool, classes: int) -> None:
    """Also where the classifier makes parameters grow linearly, so that the first guess is far off."""
    group = Group(4, mirrors)
    target = max(1, g_cnn_params(group, width, 3, classes) + offset)
    found = nearest_width(group, 3, classes, target)
    distances = {near: abs(g_cnn_params(group, near, 3, classes) - target) for near in range(1, 15)}
    assert found == min(distances, key=distances.__getitem__)


def test_objective_names() -> None:
    assert objective_name({"mode": "R8", "ratio": [32, 8, 2, 1], "pool_sizes": [8, 4, 2, 1]}) == "R8-4-2-1"
    assert objective_name({"mode": "R4", "reflection": True}) == "R4+reflection"
    assert objective_name({}) == "R4"
