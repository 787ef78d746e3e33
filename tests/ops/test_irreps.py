"""The irrep basis: transforms against the irreps themselves, and the convolution against the filter bank's."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.groups import GRID_EXACT
from e4profile.layers import GroupConv2d
from e4profile.layers.execution import EXECUTIONS
from e4profile.ops import butterflies, irrep_planes
from e4profile.ops.butterflies import Place, Plan, dense, together
from e4profile.ops.filter_bank import stand_alone
from e4profile.ops.irrep_basis import Window, basis_of, transformed
from e4profile.ops.irreps import chain, convolve, forward, irrep_filters
from e4profile.witnesses.timing.passes import fixed_threads

exact = pytest.mark.parametrize("group", GRID_EXACT, ids=str)


@exact
def test_butterflies_give_the_coefficients_of_the_irreps(group):
    basis = basis_of(group)
    units = list(torch.eye(group.order, dtype=torch.float64))
    found = transformed(units, basis.stages)
    # the same irreps up to their order; a block is known by its d and its entries at the elements
    stated = [
        [[torch.tensor([m[i][j] for m in irrep.matrices]) for j in range(irrep.dimension)] for i in range(rows)]
        for irrep in group.irreps
        for rows in [irrep.multiplicity]
    ]
    made = [[[found[slot] for slot in row] for row in block.slots] for block in basis.blocks]
    assert sorted(_numbers(one) for one in made) == sorted(_numbers(one) for one in stated)
    assert sorted(slot for block in basis.blocks for row in block.slots for slot in row) == list(group.elements)
    assert basis.products == group.irrep_products
    assert made[0][0][0].tolist() == [1] * group.order  # a bias is the trivial irrep's


def _numbers(block):
    return [[entry.tolist() for entry in row] for row in block]


@exact
def test_the_way_back_is_the_transpose(group):
    basis = basis_of(group)
    units = list(torch.eye(group.order, dtype=torch.float64))
    there, back = torch.stack(transformed(units, basis.stages)), torch.stack(transformed(units, basis.stages[::-1]))
    assert torch.equal(there, back.T)
    norms = there @ there.T
    assert torch.equal(norms, norms.diag().diag())
    for block in basis.blocks:
        for slot in itertools.chain(*block.slots):
            assert norms[slot, slot] == group.order / block.dimension


class _Sums(TorchDispatchMode):
    """Elements of sums and differences that run."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket._qualified_op_name in ("aten::add", "aten::sub"):
            self.elements += out.numel()
        return out


@exact
def test_additions_are_those_that_run(group):
    basis = basis_of(group)
    with _Sums() as there:
        found = transformed([torch.ones(5) for _ in group.elements], basis.stages)
    with _Sums() as back:
        transformed(found, basis.stages[::-1])
    assert there.elements == back.elements == 5 * basis.additions


def test_two_pairs_are_one_call_only_where_they_lie_alike():
    """Whatever two additions read and write: one call where one view has both, and the same sums."""
    counts = set[int]()
    sizes, buffers = (3, 4), [torch.arange(40.0 * (n + 1)).sin() for n in range(2)]
    choices = list(itertools.product((0, 1), (0, 12, 20), ((4, 1), (5, 1))))
    for one, other, turned in itertools.product(choices, choices, (False, True)):
        read = [Place(number, first, sizes, strides) for number, first, strides in (one, other)]
        operands = [(place, place, dense(2, 2, *sizes).at(n)) for n, place in enumerate(read)]
        plan = together(torch.add, operands[::-1] if turned else operands)
        into = torch.zeros(24)
        butterflies.run(Plan(plan).bound([*buffers, into]))
        wanted = torch.cat([2 * place.of(buffers).flatten() for place in read])
        assert torch.equal(into, wanted), (one, other)
        alike = one[0] == other[0] and one[2] == other[2] and one[1] < other[1]
        assert len(plan) == (1 if alike else 2)
        counts.add(len(plan))
    assert counts == {1, 2}


CASES = [
    pytest.param(group, kernel, stride, size, id=f"{group}-k{kernel}-stride{stride}-{size[0]}x{size[1]}")
    for group in GRID_EXACT
    for kernel, stride, size in (
        (1, 1, (4, 3)),
        (1, 2, (4, 5)),
        (3, 1, (5, 4)),
        (3, 2, (5, 6)),
        (4, 1, (4, 5)),
        (5, 2, (7, 7)),
        (7, 1, (4, 4)),
    )
]


@pytest.mark.parametrize(("group", "kernel", "stride", "size"), CASES)
def test_equals_the_filter_bank_up_to_second_derivatives(monkeypatch, group, kernel, stride, size):
    torch.manual_seed(kernel + stride)
    layer = GroupConv2d(3, 2, kernel, group=group, stride=stride, padding=kernel // 2, bias=True).double()
    features = torch.randn(3, 3 * group.order, *size, dtype=torch.float64, requires_grad=True)
    window, index = Window(group, kernel, stride, kernel // 2), layer.filter_index
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        layer.bias.copy_(bias)
    bank = layer(features)
    gradient, given = torch.randn_like(bank), (features, layer.weight, layer.bias)
    directions = [torch.randn_like(one) for one in given[:2]]

    def derivatives(output, asked):
        first = torch.autograd.grad(output, asked, gradient, create_graph=True)
        along = sum((one * way).sum() for one, way in zip(first, directions, strict=False))
        return [*first, *torch.autograd.grad(along, asked[:2])]

    wanted = [bank, *derivatives(bank, given)]
    filters = irrep_filters(layer.weight, index, window)
    plain = chain(features, filters, bias, window)
    fast = convolve(features, layer.weight, bias, index, window)
    asked = (features, layer.weight, bias)
    several = [[plain, *derivatives(plain, asked)], [fast, *derivatives(fast, asked)]]
    # images outermost or innermost, in parts of fields and images of which the last is shorter
    for long_row, run in itertools.product((0, 100), (20, 200)):
        monkeypatch.setattr(irrep_planes, "_LONG_ROW", long_row)
        monkeypatch.setattr(irrep_planes, "_IMAGES", 2)
        monkeypatch.setattr(irrep_planes, "_BLOCK_BYTES", 1)
        monkeypatch.setattr(irrep_planes, "_RUN", run)
        once = convolve(features, layer.weight, bias, index, window)
        several.append([once, *torch.autograd.grad(once, asked, gradient)])
        ready = forward(features.detach(), [one.detach() for one in filters], bias.detach(), window)
        assert torch.equal(ready, once)
    for found in several:
        for one, other in zip(found, wanted, strict=False):
            assert one.shape == other.shape
            assert (one - other).abs().max() <= 1e-12 * other.abs().max()


@exact
def test_only_input_weight_and_bias_are_kept(group):
    layer = GroupConv2d(2, 3, 3, group=group, padding=1)
    features = torch.randn(2, 2 * group.order, 5, 5, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.data_ptr()) or one, lambda one: one):
        convolve(features, layer.weight, None, layer.filter_index, Window(group, 3, 1, 1))
    assert set(kept) == {features.data_ptr(), layer.weight.data_ptr(), layer.filter_index.data_ptr()}


def test_no_device_takes_another_way():
    with FakeTensorMode():  # stand-ins of a device need no such device
        for device in ("cuda", "cpu"):
            features, weight = torch.empty(2, 16, 5, 5, device=device), torch.empty(3, 2, 8, 3, 3, device=device)
            assert stand_alone(features, weight, None)
            assert not stand_alone(features, weight.to("meta"))


def test_of_no_image_gradients_are_zero():
    group = GRID_EXACT[-1]
    layer = GroupConv2d(2, 3, 3, group=group, padding=1, bias=True)
    features = torch.randn(0, 16, 5, 5, requires_grad=True)
    output = convolve(features, layer.weight, layer.bias, layer.filter_index, Window(group, 3, 1, 1))
    assert output.shape == (0, 24, 5, 5)
    for one in torch.autograd.grad(output.sum(), (features, layer.weight, layer.bias)):
        assert not one.any()


def test_one_small_image_on_one_thread_has_the_gradients_of_a_bank():
    # torch's own convolution runs it, which takes no weights in another order
    layer = GroupConv2d(2, 3, 3, group=GRID_EXACT[-1], padding=1)
    features = torch.randn(1, 2 * layer.group.order, 4, 4, requires_grad=True)
    with fixed_threads(1):
        once = convolve(features, layer.weight, None, layer.filter_index, Window(layer.group, 3, 1, 1))
        both = (once, layer(features))
        found, wanted = (torch.autograd.grad(one.square().sum(), (features, layer.weight)) for one in both)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_many_steps_of_halves_are_added_in_float32(monkeypatch, dtype):
    """Sums of 600 steps in halves would no longer grow; of memory that nothing was written to, they would be NaN."""
    monkeypatch.setattr(irrep_planes, "_RUN", 1)
    torch.manual_seed(0)
    layer = GroupConv2d(1, 2, 1, group=GRID_EXACT[2], execution="irreps").to(dtype)
    features = torch.rand(600, layer.group.order, 2, 2, dtype=dtype)
    bank = GroupConv2d(1, 2, 1, group=GRID_EXACT[2]).double()
    bank.load_state_dict(layer.state_dict())
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        for one in (layer, bank):
            one(features.to(one.weight.dtype)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    wanted = bank.weight.grad
    assert (layer.weight.grad - wanted).abs().max() <= 0.01 * wanted.abs().max()


def test_a_layer_used_twice_has_the_second_derivatives_of_a_bank():
    """The history of the second call's features leads to the weight, too."""
    layer = GroupConv2d(2, 2, 1, group=GRID_EXACT[2]).double()
    features = torch.randn(2, 2 * layer.group.order, 3, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for execution in ("irreps", "bank"):
        layer.execution = execution
        asked = (features, layer.weight)
        first = torch.autograd.grad(layer(layer(features)).pow(3).sum(), asked, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(one.square().sum() for one in first), asked)])
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def test_parts_without_gradients_are_left_alone():
    group = GRID_EXACT[2]
    layer = GroupConv2d(2, 3, 3, group=group, padding=1, bias=True).double()
    features = torch.randn(2, 2 * group.order, 5, 5, dtype=torch.float64)
    window = Window(group, 3, 1, 1)
    for leaves in itertools.product((False, True), repeat=3):
        given = [
            one.detach().clone().requires_grad_(leaf)
            for one, leaf in zip((features, layer.weight, layer.bias), leaves, strict=True)
        ]
        if not any(leaves):
            continue
        output = convolve(*given, layer.filter_index, window)
        plain = chain(given[0], irrep_filters(given[1], layer.filter_index, window), given[2], window)
        asked = [one for one in given if one.requires_grad]
        gradient = torch.randn_like(output)
        for one, other in zip(
            torch.autograd.grad(output, asked, gradient), torch.autograd.grad(plain, asked, gradient), strict=True
        ):
            assert torch.allclose(one, other, rtol=0, atol=1e-12)


@exact
def test_a_layer_adds_as_often_as_its_terms_say(group):
    layer = GroupConv2d(2, 3, 3, group=group, padding=1, stride=2, execution="irreps")
    features = torch.randn(4, 2 * group.order, 7, 5)
    with _Sums() as seen, torch.no_grad():
        layer(features)
    assert seen.elements == sum(layer.cost(features.shape).elements.values())


def test_inputs_without_a_batch_and_of_other_channels_are_as_for_a_bank():
    bank, irreps_ = (GroupConv2d(2, 3, 3, group="p4", padding=1, execution=one) for one in ("bank", "irreps"))
    irreps_.load_state_dict(bank.state_dict())
    image = torch.randn(8, 8, 8)
    assert torch.allclose(irreps_(image), bank(image), atol=1e-5)
    for wrong in (torch.randn(1, 12, 8, 8), torch.randn(8, 8), torch.randn(1, 8, 5, 0)):
        messages = []
        for layer in (bank, irreps_):
            with pytest.raises(RuntimeError) as refused:
                layer(wrong)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("trained", [True, False])
def test_a_trace_runs_as_the_layer_does_and_warns_of_no_size(execution, trained):
    layer = GroupConv2d(2, 3, 3, group="p4", padding=1, execution=execution).double().train(trained)
    features = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    traced = torch.jit.trace(layer, features)
    assert torch.equal(traced(features), layer(features))
    run_in_irreps = sum("convolution" in node.kind() for node in traced.inlined_graph.nodes()) > 1
    assert run_in_irreps == layer.in_irreps(features.shape) == (execution == "irreps")
