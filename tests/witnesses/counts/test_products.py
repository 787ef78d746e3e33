"""Contractions written out element by element: found where there is one, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from e4profile.networks.cards import all_cards
from e4profile.witnesses.counts.dispatch import count_dispatch

SHAPE = (2, 3, 4, 5)


class Written(nn.Module):
    """A forward in one line, of x (2, 3, 4, 5) and a second tensor y like it."""

    def __init__(self, run: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor, y: Tensor) -> object:
        return self.run(x, y)


def found(run: Callable[[Tensor, Tensor], object], *, on_meta: bool = True) -> int:
    """MACs of contractions that a forward writes out."""
    counted = count_dispatch(Written(run), (torch.ones(SHAPE), torch.ones(SHAPE)), on_meta=on_meta)
    assert counted.uncounted == {}
    return sum(counted.summed_products.values())


@pytest.mark.parametrize("on_meta", [True, False], ids=["meta", "real"])
@pytest.mark.parametrize(
    "run",
    [
        lambda x, y: (x * y).sum(),
        lambda x, y: (x * y).sum(1),
        lambda x, y: (x * y).mean((2, 3)),
        lambda x, y: (x * y[:, :, :1]).sum(1),
        lambda x, y: (x * y).permute(0, 2, 3, 1).contiguous().flatten(2).sum(-1),
        lambda x, y: (x * y[:, :, :1, :1]).permute(0, 2, 3, 1).contiguous().sum(3),
        lambda x, y: (x * y).flatten(1).sum(1),
        lambda x, y: (x * y)[:, 1:, ::2].sum(2),
        lambda x, y: (x * y).double().sum(3),
        lambda x, y: (x * y).unflatten(3, (1, 5)).transpose(1, 4).sum(1),
        torch.nn.functional.cosine_similarity,
    ],
)
def test_a_sum_along_an_axis_of_both_factors_is_a_contraction(run, on_meta: bool) -> None:
    assert found(run, on_meta=on_meta) > 0


@pytest.mark.parametrize("on_meta", [True, False], ids=["meta", "real"])
@pytest.mark.parametrize(
    "run",
    [
        lambda x, y: (x * y[:, :, :1, :1]).mean((2, 3)),
        lambda x, y: (x * y[:, :, :1, :1].expand(SHAPE)).mean((2, 3)),
        lambda x, y: (x * y[:, :, :1, :1]).flatten(2).sum(2),
        lambda x, y: (x * y[0, 0, 0]).permute(3, 1, 0, 2).sum((1, 2, 3)),
        lambda x, y: (x * y[:1]).sum(0),
        lambda x, y: (x * y).unsqueeze(1).sum(1),
        lambda x, y: (x * y)[:, :1].sum(1),
        lambda x, y: (x * y).relu().sum(1),
        lambda x, y: torch.stack((x * y, x)).sum(0),
    ],
)
def test_a_scaling_before_a_sum_is_none(run, on_meta: bool) -> None:
    assert found(run, on_meta=on_meta) == 0


def test_a_product_that_is_used_otherwise_too_is_a_map_that_is_pooled() -> None:
    def gate(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gated = x * y
        return gated.mean(1), gated.amax(1)

    def gate_after(x: Tensor, y: Tensor) -> Tensor:
        gated = x * y
        return gated.mean((2, 3), keepdim=True) * gated

    def twice(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        product = x * y
        return product.sum(1), product.sum(2)

    assert found(gate) == found(gate_after) == 0
    assert found(twice) == 120


def test_memory_that_is_used_again_holds_no_product() -> None:
    def reuse(x: Tensor, y: Tensor) -> Tensor:
        product = x * y
        del product
        return (x + y).sum(1)

    assert found(reuse, on_meta=False) == 0


def test_no_built_in_topology_hides_a_contraction() -> None:
    cards = {card.network: card for card in all_cards().values() if card.network}
    warned = {
        card.name: dict(counted.summed_products)
        for card in cards.values()
        if (counted := count_dispatch(card.build("meta"), (torch.empty(card.input_shape()),))).summed_products
    }
    assert "alpha_p4_cnn" in cards
    assert warned == {}
