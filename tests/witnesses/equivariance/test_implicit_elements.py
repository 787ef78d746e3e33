"""Turning and mirroring images by group elements: exact at right angles, drawn as asked."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from e4profile.groups import Group
from e4profile.networks.cards import all_cards
from e4profile.questions.published.implicit import NETWORKS as IMPLICIT
from e4profile.witnesses.equivariance.implicit import act_on_each, act_on_plane, draw_elements, sampling_group

CARDS = [card for card in all_cards().values() if card.network in IMPLICIT]
SAMPLING = [("R4", False), ("R8", False), ("R4", True), ("R8", True)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    rotations=st.sampled_from((4, 8)), mirrors=st.booleans(), draw=st.data(), size=st.integers(1, 9),
    channels=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_right_angles_and_mirrors_are_exact_and_undone_exactly(
    rotations: int, mirrors: bool, draw: st.DataObject, size: int, channels: int
) -> None:
    group = Group(rotations, mirrors)
    element = draw.draw(st.sampled_from([e for e in group.elements if 4 * group.split(e)[0] % rotations == 0]))
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
        sampled = F.grid_sample(images, F.affine_grid(theta, [1, 2, 9, 9], align_corners=False), align_corners=False)
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
    assert len(frequency) == (group.order if name == "R4" or reflection else 7) - (name == "R8" and reflection)


def test_the_flips_are_up_down_and_left_right() -> None:
    group, images = Group(4, mirrors=True), torch.randn(1, 1, 5, 5, generator=seeded())
    assert torch.equal(act_on_plane(images, group, 4), images.flip(-1))
    assert torch.equal(act_on_plane(images, group, 6), images.flip(-2))
