"""MACs of products of every layout, in place, into a given tensor, of complex numbers, and inside operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as prune
from torch import Tensor, nn

from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.base import Count
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.walk import Watcher


class Of(nn.Module):
    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, *inputs: Any) -> Any:
        return self.run(*inputs)


def counted(run: Callable[..., Any], *inputs: Any) -> Count:
    model = run if isinstance(run, nn.Module) else Of(run)
    count, _, _ = count_run(model, Example(inputs), Watcher)
    return count


def macs(run: Callable[..., Any], *inputs: Any) -> int:
    count = counted(run, *inputs)
    assert count.uncounted == {}
    return count.macs


def sparse(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, columns, generator=generator).relu()


LAYOUTS = {
    "coo": Tensor.to_sparse,
    "csr": Tensor.to_sparse_csr,
    "csc": Tensor.to_sparse_csc,
    "bsr of single elements": lambda dense: dense.to_sparse_bsr((1, 1)),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_products_cost_their_non_zeros(layout: str) -> None:
    dense, other = sparse(40, 50), torch.randn(50, 4)
    matrix, stored = LAYOUTS[layout](dense), int(dense.count_nonzero())
    assert stored < dense.numel()
    assert macs(lambda a, b: a @ b, matrix, other) == stored * 4
    assert macs(torch.sparse.mm, matrix, other) == stored * 4
    if not layout.startswith("bsr"):
        assert macs(lambda a, b: torch.sparse.addmm(torch.zeros(40, 4), a, b), matrix, other) == stored * 4
        assert macs(lambda a, b: a @ b[:, 0], matrix, other) == stored
        assert macs(lambda a, b: b @ a, matrix, torch.randn(3, 40)) == stored * 3
        assert macs(lambda a, b: F.linear(b, a), matrix, torch.randn(3, 50)) == stored * 3


@pytest.mark.filterwarnings("ignore:Sparse")
def test_products_of_sparse_tensors_with_each_other_and_where_one_is_wanted() -> None:
    first, second = sparse(20, 30), sparse(30, 25)
    # multiplications one by one
    meetings = sum(
        int(first[row, inner] != 0 and second[inner, column] != 0)
        for row in range(20) for inner in range(30) for column in range(25)
    )  # fmt: skip
    assert macs(torch.sparse.mm, first.to_sparse(), second.to_sparse()) == meetings
    assert macs(torch.sparse.mm, first.to_sparse_csr(), second.to_sparse_csr()) == meetings
    wanted = first.to_sparse_csr()
    sampled = macs(torch.sparse.sampled_addmm, wanted, torch.randn(20, 7), torch.randn(7, 30))
    assert sampled == int(first.count_nonzero()) * 7
    assert macs(lambda a, b: a @ b, torch.randn(4, 6).to_sparse_bsr((2, 2)), torch.randn(6, 2)) == 4 * 6 * 2
    assert macs(torch.bmm, torch.ones(2, 4, 5).to_sparse(), torch.randn(2, 5, 3)) == 2 * 4 * 5 * 3


def test_a_sparse_buffer_is_counted_by_its_values() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("edges", sparse(9, 9).to_sparse())

        def forward(self, x: Tensor) -> Tensor:
            return self.edges @ x

    assert macs(Graph(), torch.randn(9, 4)) == int(sparse(9, 9).count_nonzero()) * 4


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_cost_the_sum_of_their_parts(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=layout)
    assert macs(nn.Linear(3, 5), nested) == (2 + 4) * 3 * 5
    parts = torch.nested.nested_tensor([torch.randn(2, 4, 8), torch.randn(6, 4, 8)], layout=layout).transpose(1, 2)
    parts = parts if layout is torch.jagged else parts.contiguous()
    attend = lambda x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
    assert macs(attend, parts) == 4 * (2 * 2 + 6 * 6) * (8 + 8)


IN_PLACE = {
    "addmm": ((3, 4), (3, 5), (5, 4), 3 * 5 * 4),
    "addmv": ((3,), (3, 5), (5,), 3 * 5),
    "addr": ((3, 4), (3,), (4,), 3 * 4),
    "addbmm": ((3, 4), (2, 3, 5), (2, 5, 4), 2 * 3 * 5 * 4),
    "baddbmm": ((2, 3, 4), (2, 3, 5), (2, 5, 4), 2 * 3 * 5 * 4),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_products_in_place_and_into_a_given_tensor(name: str) -> None:
    *shapes, expected = IN_PLACE[name]
    inputs = [torch.randn(shape) for shape in shapes]
    assert macs(lambda a, b, c: getattr(a.clone(), f"{name}_")(b, c), *inputs) == expected
    assert macs(lambda a, b, c: getattr(torch, name)(a, b, c, out=torch.empty_like(a)), *inputs) == expected


def test_free_operators_into_a_given_tensor() -> None:
    def run(x: Tensor) -> object:
        pair = torch.empty_like(x[0]), torch.empty_like(x[0], dtype=torch.long)
        return torch.add(x, x, out=torch.empty_like(x)), torch.max(x, 0, out=pair), torch.sum(x, 0, out=pair[0])

    assert macs(run, torch.randn(3, 4)) == 0


def test_products_of_experts_of_integers_and_over_time() -> None:
    tokens, experts = torch.randn(16, 8).bfloat16(), torch.randn(2, 8, 32).bfloat16()
    ends = torch.tensor([4, 16], dtype=torch.int32)
    if hasattr(torch, "_grouped_mm"):
        assert macs(lambda x, w: torch._grouped_mm(x, w, offs=ends.to(x.device)), tokens, experts) == 16 * 8 * 32
    assert macs(torch._int_mm, *(torch.ones(s, dtype=torch.int8) for s in ((32, 16), (16, 8)))) == 32 * 16 * 8
    assert macs(torch.conv_tbc, torch.randn(5, 2, 3), torch.randn(3, 3, 4), torch.randn(4)) == 3 * 2 * 4 * 3 * 3


def test_a_complex_mac_is_four_real_ones() -> None:
    def complex_numbers(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.complex64)

    assert macs(nn.Linear(5, 3, dtype=torch.complex64), complex_numbers(2, 5)) == 4 * 2 * 5 * 3
    einsum = lambda a, b: torch.einsum("bi,ij->bj", a, b)  # noqa: E731
    assert macs(einsum, complex_numbers(2, 5), complex_numbers(5, 3)) == 4 * 2 * 5 * 3
    assert macs(einsum, torch.randn(2, 5), torch.randn(5, 3)) == 2 * 5 * 3


@pytest.mark.parametrize(
    ("layer", "shape", "products"),
    [
        (nn.Linear(5, 3, dtype=torch.complex64), (2, 5), 2 * 5 * 3),
        (nn.Conv2d(2, 4, 3, dtype=torch.complex64), (2, 2, 5, 5), 2 * 2 * 4 * 9 * 9),
        (nn.Conv2d(2, 4, 3, groups=2, bias=False, dtype=torch.complex64), (1, 2, 5, 5), 4 * 9 * 9),
    ],
)
def test_complex_layers_agree_with_their_closed_form(layer: nn.Module, shape: tuple[int, ...], products: int) -> None:
    found = measure_module(layer, torch.randn(shape, dtype=torch.complex64), counters=())
    assert found.agrees
    assert found.closed.macs == found.dispatch.macs == 4 * products


class Spectral(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.kernels = nn.Parameter(weight)

    def forward(self, image: Tensor) -> Tensor:
        kernels = self.kernels if self.kernels.is_complex() else torch.view_as_complex(self.kernels)
        return F.conv2d(image.to(torch.complex64), kernels)


@pytest.mark.parametrize("weight", [torch.randn(4, 2, 3, 3, dtype=torch.complex64), torch.randn(4, 2, 3, 3, 2)])
def test_a_convolution_of_complex_numbers_is_four_real_ones_wherever_its_weight_is(weight: Tensor) -> None:
    products = 2 * 4 * 9 * 2 * 9
    assert macs(Spectral(weight), torch.randn(2, 2, 5, 5)) == 4 * products
    twice = nn.Sequential(Spectral(weight), nn.Conv2d(4, 4, 1, dtype=torch.complex64))
    assert macs(twice, torch.randn(2, 2, 5, 5)) == 4 * (products + 2 * 4 * 9 * 4)

    def twice_over(image: Tensor, kernels: Tensor) -> Tensor:
        with torch.enable_grad():
            of = kernels.detach().requires_grad_(True)
            return torch.autograd.grad(F.conv2d(image, of).abs().sum(), of)[0]

    def one_by_one(image: Tensor, kernels: Tensor) -> Tensor:
        real = F.conv2d(image.real, kernels.real) - F.conv2d(image.imag, kernels.imag)
        return torch.complex(real, F.conv2d(image.real, kernels.imag) + F.conv2d(image.imag, kernels.real))

    given = (torch.randn(2, 2, 5, 5, dtype=torch.complex64), torch.randn(4, 2, 3, 3, dtype=torch.complex64))
    assert macs(one_by_one, *given) == 4 * products
    assert macs(twice_over, *given) == 2 * 4 * products


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_layer_of_nested_tensors_is_counted_and_has_no_closed_form(layout: torch.layout) -> None:
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    given = measure_module(nn.Linear(3, 5), torch.nested.nested_tensor(parts, layout=layout), counters=())
    inside = nn.Sequential(Of(lambda one: torch.nested.nested_tensor([one[:2], one], layout=layout)), nn.Linear(3, 5))
    made = measure_module(inside, torch.randn(4, 3), counters=())
    for found in (given, made):
        assert (found.dispatch.macs, found.dispatch.params, found.closed.macs) == ((2 + 4) * 3 * 5, 20, 0)
        assert not found.coverage.whole


def test_transforms_cost_n_log_n_complex_macs() -> None:
    # N = 8 and log2 N = 3; half between real and complex numbers
    assert macs(torch.fft.fft, torch.randn(2, 8, dtype=torch.complex64)) == 4 * 2 * 8 * 3
    assert macs(torch.fft.rfft, torch.randn(2, 8)) == 4 * 2 * 8 * 3 // 2
    assert macs(torch.fft.irfft, torch.randn(2, 5, dtype=torch.complex64)) == 4 * 2 * 8 * 3 // 2
    assert macs(torch.fft.rfft2, torch.randn(2, 8, 8)) == 4 * 2 * 64 * 6 // 2


def test_factorisations_cost_their_leading_terms() -> None:
    matrix = torch.eye(6) * 2
    assert macs(torch.linalg.cholesky, matrix) == 6**3 // 6
    assert macs(torch.linalg.inv, matrix) == 6**3
    assert macs(torch.linalg.solve, matrix, torch.randn(6, 4)) == 6**3 // 3 + 6 * 6 * 4
    assert macs(torch.linalg.solve, matrix, torch.randn(6)) == 6**3 // 3 + 6 * 6
    assert macs(lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), matrix, torch.randn(6, 4)) == 6 * 24 // 2
    assert macs(lambda a, b: torch.cholesky_solve(b, a), matrix, torch.randn(6, 4)) == 6 * 24
    assert macs(torch.linalg.qr, torch.randn(2, 9, 6)) == 2 * 2 * 36 * (9 - 2)
    reflectors, tau = torch.randn(2, 9, 4), torch.randn(2, 4)
    assert macs(torch.ormqr, reflectors, tau, torch.randn(2, 9, 5)) == 2 * 5 * 4 * (2 * 9 - 4)
    assert macs(lambda *a: torch.ormqr(*a, left=False), reflectors, tau, torch.randn(2, 5, 9)) == 2 * 5 * 4 * (18 - 4)
    factors = torch.linalg.lu_factor(matrix)
    assert macs(torch.lu_unpack, *factors) == 0


def test_weighted_bags_are_products_and_others_sums() -> None:
    indices, table = torch.tensor([[0, 1], [2, 1]]), torch.randn(3, 4)
    weighted = lambda i, t, w: F.embedding_bag(i, t, per_sample_weights=w, mode="sum")  # noqa: E731
    assert macs(weighted, indices, table, torch.rand(2, 2)) == 4 * 4
    assert macs(lambda i, t: F.embedding_bag(i, t, mode="sum"), indices, table) == 0


SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scatter_add": lambda p, i: torch.zeros_like(p).scatter_add(0, i[:, None].expand_as(p), p),
    "scatter_add_": lambda p, i: torch.zeros_like(p).scatter_add_(0, i[:, None].expand_as(p), p),
    "scatter_reduce": lambda p, i: torch.zeros_like(p).scatter_reduce(0, i[:, None].expand_as(p), p, "sum"),
    "index_add": lambda p, i: torch.zeros_like(p).index_add(0, i, p),
    "index_add_": lambda p, i: torch.zeros_like(p).index_add_(0, i, p),
    "index_put_": lambda p, i: torch.zeros_like(p).index_put_((i,), p, accumulate=True),
    "cumsum": lambda p, _: p.cumsum(0),
}


@pytest.mark.parametrize("name", SUMS)
def test_products_gathered_along_an_axis_of_both_factors_are_told(name: str) -> None:
    nodes, weights, targets = torch.randn(7, 4), torch.randn(7, 1), torch.arange(7)
    run = lambda x, w, i: SUMS[name](x * w, i)  # noqa: E731
    assert counted(run, nodes, weights, targets).summed_products == {"": 28}
    # one weight for all edges scales, and contracts nothing
    assert counted(run, nodes, weights[:1], targets).summed_products == {}


def test_what_replaces_or_takes_the_largest_sums_nothing() -> None:
    nodes, weights, targets = torch.randn(7, 4), torch.randn(7, 1), torch.arange(7)
    put = lambda x, w, i: torch.zeros_like(x).index_put_((i,), x * w)  # noqa: E731
    largest = lambda x, w, i: torch.zeros_like(x).scatter_reduce(0, i[:, None].expand_as(x), x * w, "amax")  # noqa: E731
    assert counted(put, nodes, weights, targets).summed_products == {}
    assert counted(largest, nodes, weights, targets).summed_products == {}


def test_gradients_inside_a_forward() -> None:
    def grouped(x: Tensor, weight: Tensor) -> Any:
        with torch.enable_grad():
            x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
            return torch.autograd.grad(F.conv2d(x, weight, groups=2).sum(), (x, weight))

    def others(x: Tensor) -> Any:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = F.gelu(F.silu(F.elu(F.leaky_relu(F.hardswish(F.mish(F.softplus(x)))))))
            y = F.layer_norm(y, (8,)).softmax(-1) + F.max_pool1d(x, 3, 1, 1) + F.avg_pool1d(x, 3, 1, 1)
            y = F.interpolate(F.glu(torch.cat([y, y], -1), -1), scale_factor=2) + F.pad(x, (4, 4), "reflect")
            return torch.autograd.grad(y.log_softmax(-1).cumsum(1).unfold(1, 2, 1).prod(), x)

    assert macs(grouped, torch.randn(1, 2, 5, 5), torch.randn(4, 1, 3, 3)) == 3 * (4 * 9 * 9)
    assert macs(others, torch.randn(2, 3, 8)) == 0


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers_have_their_macs_and_parameters() -> None:
    quantisation = torch.ao.quantization
    model = nn.Sequential(
        quantisation.QuantStub(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10),
        quantisation.DeQuantStub(),
    ).eval()  # fmt: skip
    image = torch.randn(1, 3, 8, 8)
    real = counted(model, image)
    model.qconfig = quantisation.get_default_qconfig(torch.backends.quantized.engine)
    observed = quantisation.prepare(model)
    observed(image)
    for network in (observed, quantisation.convert(observed), quantisation.quantize_dynamic(model, {nn.Linear})):
        count = counted(network, image)
        assert (count.operations, count.params, count.uncounted) == (real.operations, real.params, {})


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.filterwarnings("ignore")
def test_quantised_recurrent_layers_cost_what_they_did_before(kind: Any, backwards: bool) -> None:
    model = nn.Sequential(kind(8, 16, 2, bidirectional=backwards))
    packed = torch.ao.quantization.quantize_dynamic(model, {kind}, dtype=torch.qint8)
    steps = torch.randn(5, 3, 8)
    before, after = counted(model, steps), counted(packed, steps)
    assert after.uncounted == {}
    assert (after.macs, after.params) == (before.macs, before.params)
    lengths = nn.utils.rnn.pack_padded_sequence(steps, torch.tensor([5, 4, 1]))
    directions = 2 if backwards else 1
    gates = {nn.LSTM: 4, nn.GRU: 3}[kind]
    each = directions * gates * 16 * (8 + 16) + directions * gates * 16 * (directions * 16 + 16)
    assert macs(packed, lengths) == (5 + 4 + 1) * each


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
@pytest.mark.filterwarnings("ignore")
def test_quantised_cells_have_their_macs_and_parameters(kind: Any, gates: int) -> None:
    packed = torch.ao.quantization.quantize_dynamic(nn.Sequential(kind(8, 16)), {kind}, dtype=torch.qint8)
    count = counted(packed, torch.randn(3, 8))
    assert (count.macs, count.uncounted) == (3 * gates * 16 * (8 + 16), {})
    assert count.params == sum(parameter.numel() for parameter in kind(8, 16).parameters())


@pytest.mark.parametrize("wrap", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_is_computed_has_no_closed_form(wrap: Callable[[nn.Module], nn.Module]) -> None:
    found = measure_module(nn.Sequential(wrap(nn.Linear(3, 4)), nn.Linear(4, 2)), (2, 3), counters=())
    assert [layer.path for layer in found.closed.layers] == ["1"]
    assert found.dispatch.params == sum(p.numel() for p in wrap(nn.Linear(3, 4)).parameters()) + 10


def test_a_pruned_weight_keeps_its_closed_form() -> None:
    layer = nn.Linear(3, 4)
    prune.random_unstructured(layer, "weight", 0.5)
    assert measure_module(layer, (2, 3), counters=()).agrees


class Mapped(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.inner, self.dims = nn.Linear(3, 4), dims

    def forward(self, x: Tensor) -> Tensor:
        run: Callable[[Tensor], Tensor] = self.inner
        for _ in range(self.dims):
            run = torch.vmap(run)
        return run(x)


@pytest.mark.parametrize("dims", [0, 1, 2])
def test_what_is_mapped_over_runs_as_often(dims: int) -> None:
    found = measure_module(Mapped(dims), torch.randn(5, 2, 3), counters=())
    assert found.closed.macs == found.dispatch.macs == 5 * 2 * 3 * 4


def test_stand_ins_are_parameters_that_are_trained_as_the_users_are() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            assert isinstance(self.weight, nn.Parameter)
            assert (self.weight.requires_grad, self.frozen.requires_grad) == (True, False)
            return x * self.weight

    _, _, notes = count_run(Asks(), Example((torch.ones(3),)), Watcher)
    assert notes == ()


needs_bodies = pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="PyTorch runs no bodies itself")


@needs_bodies
@pytest.mark.filterwarnings("ignore")
def test_operators_on_functions_cost_what_their_bodies_do() -> None:
    from torch._higher_order_ops.scan import scan
    from torch._higher_order_ops.while_loop import while_loop
    from torch.nn.attention.flex_attention import flex_attention

    matrix = torch.randn(3, 3)
    one_or_two = lambda x: torch.cond(x.sum() > 1e9, lambda y: y @ y, lambda y: y @ y @ y, (x,))  # noqa: E731
    turns = lambda i, x: while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x @ x), (i, x))  # noqa: E731
    assert macs(one_or_two, matrix) == 2 * 27
    assert macs(turns, torch.tensor(0), matrix) == 3 * 27
    assert macs(lambda c, x: scan(lambda c, y: (c @ y, c.clone()), c, x), matrix, torch.randn(4, 3, 3)) == 4 * 27
    query = torch.randn(1, 2, 16, 8)
    assert macs(lambda q: flex_attention(q, q, q), query) == 2 * 16 * 16 * (8 + 8)
