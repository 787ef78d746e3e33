"""The operators of the common families are counted or free, in place too, on the meta device and for real."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.witnesses.counts.dispatch import count_dispatch

ON_META = pytest.mark.parametrize("on_meta", [True, False], ids=["meta", "real"])


class Run(nn.Module):
    def __init__(self, run: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> object:
        return self.run(x)


FREE: dict[str, Callable[[Tensor], object]] = {
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "bicubic, smoothed": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True),
    "nearest-exact": lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
    "trilinear": lambda x: F.interpolate(x[None], scale_factor=2, mode="trilinear"),
    "linear": lambda x: F.interpolate(x[0], scale_factor=2, mode="linear"),
    "3-D pools": lambda x: (F.max_pool3d(x[None], 2), F.avg_pool3d(x[None], 2), F.adaptive_avg_pool3d(x[None], 2)),
    "1-D pools": lambda x: (F.max_pool1d(x[0], 2), F.avg_pool1d(x[0], 2), F.adaptive_max_pool1d(x[0], 2)),
    "response norm": lambda x: F.local_response_norm(x, 3),
    "root mean square norm": lambda x: F.rms_norm(x, (8,)),
    "gates": lambda x: (F.glu(x, 1), F.celu(x), F.selu(x), F.hardshrink(x), F.logsigmoid(x), F.softsign(x)),
    "in place": lambda x: F.mish(F.elu(x.clone(), inplace=True), inplace=True).exp_().pow_(2).rsqrt_().ceil_(),
    "addcmul": lambda x: torch.addcmul(x, x, x).lerp(x, 0.5).nan_to_num().expm1(),
    "padding": lambda x: (F.pad(x[0], (1, 1), mode="reflect"), F.pad(x[None], (1,) * 6, mode="replicate")),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "weight norm": lambda x: torch._weight_norm(x, x[:, :1, :1, :1].clone(), 0),
    "as_strided_": lambda x: x.clone().as_strided_((2, 4), (4, 1)).squeeze_(),
    "gumbel": F.gumbel_softmax,
    "losses": lambda x: (
        F.mse_loss(x, x),
        F.huber_loss(x, x),
        F.smooth_l1_loss(x, x),
        F.soft_margin_loss(x, x),
        F.kl_div(x, x, reduction="sum"),
        F.binary_cross_entropy(x, x),
        F.binary_cross_entropy_with_logits(x, x),
        F.cross_entropy(x, torch.zeros(2, 8, 8, dtype=torch.long, device=x.device)),
        F.cross_entropy(x[0, 0], torch.zeros(8, dtype=torch.long, device=x.device)),
    ),
    "special functions": lambda x: (x.lgamma(), x.digamma(), x.hypot(x), x.xlogy(x), F.rrelu(x)),
    "other norms than two": lambda x: (torch.cdist(x, x, p=1.0), F.pdist(x[0, 0], p=3.0), x.renorm(2, 0, 1.0)),
    "orderings": lambda x: (x.cumprod(1), x.cummax(1), x.aminmax(), x.flatten().quantile(0.5)),
}


@ON_META
@pytest.mark.parametrize("name", FREE)
def test_free_operators_are_known(name: str, on_meta: bool) -> None:
    counted = count_dispatch(Run(FREE[name]), (torch.rand(2, 4, 8, 8),), on_meta=on_meta)
    assert (counted.uncounted, counted.operations) == ({}, {})
    assert counted.free


PRODUCTS: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], int]] = {
    # operator, shapes of its inputs, MACs by hand
    "bilinear": (F.bilinear, ((4, 5), (4, 6), (7, 5, 6)), 4 * 7 * 5 * 6),
    "bilinear of sequences": (F.bilinear, ((2, 3, 5), (2, 3, 6), (7, 5, 6)), 6 * 7 * 5 * 6),
    "addr": (torch.addr, ((5, 6), (5,), (6,)), 5 * 6),
    "distances": (torch.cdist, ((2, 3, 5), (2, 4, 5)), 2 * 3 * 4 * 5),
    "distances, by a product": (torch.cdist, ((2, 30, 5), (2, 40, 5)), 2 * 30 * 40 * (5 + 2)),
    "distances of pairs": (F.pdist, ((6, 5),), 6 * 5 // 2 * 5),
    "affine grid": (lambda x: F.affine_grid(x, (2, 3, 8, 9), align_corners=False), ((2, 2, 3),), 2 * 8 * 9 * 2 * 3),
    "affine grid in space": (
        lambda x: F.affine_grid(x, (2, 1, 4, 8, 9), align_corners=False), ((2, 3, 4),), 2 * 4 * 8 * 9 * 3 * 4
    ),
    "cross product": (torch.linalg.cross, ((7, 3), (7, 3)), 7 * 3 * 2),
}  # fmt: skip


class Of(nn.Module):
    def __init__(self, run: Callable[..., object]) -> None:
        super().__init__()
        self.run = run

    def forward(self, *inputs: Tensor) -> object:
        return self.run(*inputs)


@ON_META
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_that_pytorch_has_no_formula_for(name: str, on_meta: bool) -> None:
    operator, shapes, macs = PRODUCTS[name]
    counted = count_dispatch(Of(operator), [torch.rand(shape) for shape in shapes], on_meta=on_meta)
    assert (counted.uncounted, counted.operations) == ({}, {"linear": macs})


def test_the_product_behind_distances_is_what_runs() -> None:
    first, second = torch.rand(30, 5), torch.rand(40, 5)

    def augmented(x: Tensor, y: Tensor) -> Tensor:
        squares = (x**2).sum(1, keepdim=True), (y**2).sum(1, keepdim=True)
        ones = torch.ones_like(squares[0]), torch.ones_like(squares[1])
        return torch.cat([-2 * x, squares[0], ones[0]], 1) @ torch.cat([y, ones[1], squares[1]], 1).T

    assert torch.allclose(augmented(first, second).sqrt(), torch.cdist(first, second), atol=1e-5)
    counts = [count_dispatch(Of(one), (first, second)).operations for one in (augmented, torch.cdist)]
    assert counts[0] == counts[1]


@ON_META
def test_small_matrix_products_are_counted(on_meta: bool) -> None:
    def products(x: Tensor) -> object:
        matrix, vector, stack = x[0, 0], x[0, 0, 0], x[0]
        return (
            torch.dot(vector, vector),
            torch.vdot(vector, vector),
            matrix @ vector,
            torch.addmv(vector, matrix, vector),
            torch.addbmm(matrix, stack, stack),
        )

    counted = count_dispatch(Run(products), (torch.rand(2, 4, 8, 8),), on_meta=on_meta)
    assert (counted.uncounted, counted.operations) == ({}, {"linear": 8 + 8 + 64 + 64 + 4 * 8**3})


@ON_META
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(layer: type[nn.Module], on_meta: bool) -> None:
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[layer]
    module = layer(8, 16, 2, batch_first=True, bidirectional=True)
    counted = count_dispatch(module, (torch.rand(3, 5, 8),), on_meta=on_meta)
    first, second = gates * 16 * (8 + 16), gates * 16 * (2 * 16 + 16)
    assert (counted.uncounted, counted.operations) == ({}, {"linear": 3 * 5 * 2 * (first + second)})


@ON_META
def test_transformer_layers_hide_nothing_behind_their_fused_operator(on_meta: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    counted = count_dispatch(layer, (torch.rand(2, 5, 16),), on_meta=on_meta)
    rows, attention = 2 * 5, 2 * (2 * 5 * 5 * 16)
    assert counted.uncounted == {}
    assert counted.macs == rows * (4 * 16 * 16 + 2 * 16 * 32) + attention
    assert torch.backends.mha.get_fastpath_enabled() == before


@ON_META
def test_attention_as_one_operator_costs_what_its_products_cost(on_meta: bool) -> None:
    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x[:, :, :3], x, x[..., :5])

    counted = count_dispatch(Run(attend), (torch.rand(2, 4, 7, 8),), on_meta=on_meta)
    assert counted.uncounted == {}
    assert counted.macs == 2 * 4 * 3 * 7 * (8 + 5)
