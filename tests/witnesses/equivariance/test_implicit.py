"""The implicit-equivariance objective: what it adds and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers import LiftingConv2d
from e4profile.networks import NETWORKS
from e4profile.networks.cards import all_cards
from e4profile.questions.published.implicit import NETWORKS as IMPLICIT
from e4profile.witnesses.equivariance.implicit import (
    act_on_each,
    implicit_equivariance_loss,
    implicit_equivariance_parts,
    sampling_group,
)

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
        model, images, labels, group="R4", reflection=reflection, pool_sizes=(4,), beta=1.0, generator=seeded()
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
            model, images, labels, group="R4", reflection=reflection, pool_sizes=(4,), beta=1.0, generator=seeded()
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
        errors.append((pool(model.layer(image[None])[0]) - turn_back(pool(model.layer(copy[None])[0]), element)) ** 2)
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
    for taps, message in (((), "declares no taps"), (("gone",), "'gone' is not in"), (("spare",), "did not run")):
        model.taps = taps
        with pytest.raises(SettingError, match=message):
            implicit_equivariance_loss(model, images, labels, group="R4", beta=1.0)
    assert not any(module._forward_hooks for module in model.modules())
