"""Every layer that runs in the irrep basis: the function of its filter bank, whatever PyTorch does with it."""

from __future__ import annotations

import copy
import itertools
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from e4profile.groups import GRID_EXACT, Group
from e4profile.layers import GroupConv2d, LiftingConv2d, SeparableGroupConv2d, SteerableConv2d, set_execution
from e4profile.ops import irrep_planes, irreps
from e4profile.ops.irrep_basis import Window
from e4profile.witnesses.counts.dispatch import count_dispatch

MAKERS = {
    "group": GroupConv2d,
    "lifting": LiftingConv2d,
    "steerable": SteerableConv2d,
    "steerable lifting": partial(SteerableConv2d, field_in="trivial"),
    "separable g": partial(SeparableGroupConv2d, kind="g"),
    "separable gc": partial(SeparableGroupConv2d, kind="gc"),
}
OTHERS = (Group(8), Group(8, True), Group(3))
PLACES = [(1, 1, (4, 3)), (1, 2, (5, 4)), (3, 2, (5, 6)), (4, 1, (4, 5)), (5, 1, (5, 4)), (7, 2, (7, 6))]


def build(name, group, kernel=3, stride=1):
    """A layer 3 -> 2 fields with random parameters, and the channels of its input."""
    torch.manual_seed(kernel + stride)
    layer = MAKERS[name](3, 2, kernel, group=group, stride=stride, padding=kernel // 2, bias=True).double()
    torch.nn.init.normal_(layer.bias)
    return layer, 3 * (layer.group.order if layer.field_in == "regular" else 1)


def derivatives(output, asked, gradient, directions):
    first = torch.autograd.grad(output, asked, gradient, create_graph=True)
    along = sum((one * way).sum() for one, way in zip(first, directions, strict=True))
    return [output, *first, *torch.autograd.grad(along, asked, allow_unused=True)]


def agree(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape
            assert (one - other).abs().max() <= 1e-12 * other.abs().max()


@pytest.mark.parametrize("group", [*GRID_EXACT, *OTHERS], ids=str)
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "group"])  # see tests/ops/test_irreps.py
def test_equals_the_filter_bank_up_to_second_derivatives(monkeypatch, name, group):
    monkeypatch.setattr(irrep_planes, "_IMAGES", 1)  # several steps
    monkeypatch.setattr(irrep_planes, "_BLOCK_BYTES", 1)
    steerable = name.startswith("steerable")
    if not (steerable or group.exact_on_grid):
        return
    for kernel, stride, size in PLACES:
        if steerable and kernel % 2 == 0:
            continue
        layer, channels = build(name, group, kernel, stride)
        features = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
        asked = (features, *layer.parameters())
        bank = layer(features)
        given = torch.randn_like(bank), [torch.randn_like(one) for one in asked]
        wanted = derivatives(bank, asked, *given)
        run = set_execution(layer, "irreps")(features)
        once = torch.autograd.grad(layer(features), asked, given[0])
        agree([run, *once], wanted[: 1 + len(asked)])
        agree(derivatives(run, asked, *given), wanted)
        ready = layer.eval()(features.detach())
        agree([ready], [bank.detach()])
        meta = copy.deepcopy(layer).to("meta")
        on_meta = count_dispatch(meta, (features.detach().to("meta"),))
        assert layer.cost(features.shape).total_macs == on_meta.macs


@pytest.mark.parametrize("group", GRID_EXACT, ids=str)
def test_orbits_are_read_once_and_cost_what_their_stabilisers_leave(group):
    for kernel in (*range(1, 8), 12, 13):
        window = Window(group, kernel, 1, 0, lifts=True)
        read = [tap for reading in window.readings for one in reading.sets for _, tap in one]
        assert sorted(read) == list(range(kernel**2))
        # of each tap's orbit, d times the dimensions that a tap's stabiliser leaves, by the characters
        moved = [group.stencil_permutation(element, kernel) for element in group.elements]
        wanted = Fraction(0)
        for tap in range(kernel**2):
            fixing = [element for element in group.elements if moved[element][tap] == tap]
            for irrep in group.irreps:
                trace = sum(irrep.matrices[element][i][i] for element in fixing for i in range(irrep.dimension))
                orbit = group.order // len(fixing)
                wanted += Fraction(irrep.multiplicity * irrep.dimension * round(trace / len(fixing)), orbit)
        assert window.products == wanted
        blocks = zip(window.basis.blocks, window.widths, strict=True)
        assert window.products == sum(block.rows * block.dimension * width for block, width in blocks)
        assert window.additions == sum(reading.additions for reading in window.readings)
    # by hand, 3 x 3: the middle 1, edges and corners 6 each
    assert GRID_EXACT[-1].lifting_products(3) == 1 + 6 + 6


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_every_way_in(name):
    torch._dynamo.reset()
    group = "p4m" if name == "group" else "p4"
    layer, channels = build(name, group)
    bank = copy.deepcopy(layer)
    set_execution(layer, "irreps")
    features = torch.randn(2, channels, 6, 5, dtype=torch.float64, requires_grad=True)
    wanted = layer(features)
    leaves = [features, *layer.parameters()]
    gradients = torch.autograd.grad(wanted.square().sum(), leaves)

    for run in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        # written to, as activations in place do
        doubled = run(features).mul_(2)
        agree([doubled, *torch.autograd.grad((doubled / 2).square().sum(), leaves)], [2 * wanted, *gradients])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = [copy.deepcopy(one).float()(features.float()) for one in (layer, bank)]
    assert halves[0].dtype == halves[1].dtype
    assert (halves[0] - wanted).abs().max() < 0.1 * wanted.abs().max()

    parameters = dict(layer.named_parameters())

    def of(module, values, images):
        return torch.func.functional_call(module, values, images)

    for transform in (torch.func.vmap, lambda f: torch.func.grad(lambda *given: f(*given).square().sum())):
        ours, theirs = (
            transform(lambda images, one=one: of(one, parameters, images))(
                features.detach()[None] if transform is torch.func.vmap else features.detach()
            )
            for one in (layer, bank)
        )
        agree([ours], [theirs])
    tangent = torch.randn_like(features)
    ours, theirs = (
        torch.func.jvp(lambda images, one=one: of(one, parameters, images), (features.detach(),), (tangent,))
        for one in (layer, bank)
    )
    agree(ours, theirs)

    spread = features.detach().to(memory_format=torch.channels_last).requires_grad_()
    again = layer(spread)
    agree([again, *torch.autograd.grad(again.square().sum(), [spread, *leaves[1:]])], [wanted, *gradients])

    none = torch.randn(0, channels, 6, 5, dtype=torch.float64, requires_grad=True)
    output = layer(none)
    assert output.shape == (0, *wanted.shape[1:])
    assert not any(one.any() for one in torch.autograd.grad(output.sum(), [none, *layer.parameters()]))

    layer.eval()
    with torch.no_grad():
        agree([layer(features)], [wanted])
        for one, other in zip(layer.parameters(), bank.parameters(), strict=True):
            one.mul_(2)
            other.mul_(2)
        agree([layer(features)], [bank(features)])
        layer.load_state_dict(build(name, group, 3, 2)[0].state_dict())
        bank.load_state_dict(layer.state_dict())
        agree([layer(features)], [bank(features)])


LAYOUTS = {
    "channels last": lambda maps: maps.to(memory_format=torch.channels_last),
    "every second": lambda maps: torch.stack([maps, -maps], 4).flatten(3)[..., ::2],
    "some of the channels and rows": lambda maps: torch.cat([maps, maps], 1).repeat_interleave(2, 2)[
        :, : maps.shape[1], ::2
    ],
    "columns first": lambda maps: maps.transpose(2, 3).contiguous().transpose(2, 3),
    "one image, expanded": lambda maps: maps[:1].expand(maps.shape),
    "one number, expanded": lambda maps: maps[:1, :1, :1, :1].expand(maps.shape),
}


@pytest.mark.parametrize(("name", "kernel"), [("group", 1), ("group", 3), ("lifting", 1), ("separable g", 3)])
def test_maps_and_gradients_lie_in_any_way(name, kernel):
    layer, channels = build(name, "p4", kernel)
    bank = copy.deepcopy(layer)
    set_execution(layer, "irreps")
    maps = torch.randn(3, channels, 6, 17, dtype=torch.float64)
    upstream = torch.randn_like(bank(maps))
    for read, written in itertools.product(LAYOUTS.values(), (lambda maps: maps, *LAYOUTS.values())):
        found, wanted = (
            (output, *torch.autograd.grad(output, (features, *one.parameters()), written(upstream)))
            for one in (layer, bank)
            for features in [read(maps).requires_grad_()]
            for output in [one(features)]
        )
        agree(found, wanted)


def _recorded(layer):
    """The layer compiled without a graph break, and the operators of the irrep basis of each graph that it has met."""
    torch._dynamo.reset()
    found = []

    def backend(graph, _):
        found.append([str(node.target) for node in graph.graph.nodes if "irrep_convolution" in str(node.target)])
        return graph

    return torch.compile(layer, fullgraph=True, backend=backend), found


@pytest.mark.parametrize(("name", "group"), [("group", "p4m"), ("steerable", "C8"), ("separable gc", "p4")])
def test_a_compiler_meets_one_operator_whatever_the_batch(monkeypatch, name, group):
    monkeypatch.setattr(irreps, "_FEWEST_SAVED", -(1 << 60))  # auto takes the irrep basis
    layer, channels = build(name, group, kernel=1)
    for execution, trained in (("irreps", True), ("auto", False)):
        compiled, operators = _recorded(set_execution(layer, execution).train(trained))
        for batch in (2, 3):
            features = torch.randn(batch, channels, 4, 3, dtype=torch.float64, requires_grad=True)
            torch._dynamo.mark_dynamic(features, 0)
            asked = (features, *layer.parameters())
            found, wanted = (
                (output, *torch.autograd.grad(output.square().sum(), asked))
                for output in (compiled(features), layer(features))
            )
            agree(found, wanted)
        assert operators == [["e4profile.irrep_convolution.default"]]
    compiled, operators = _recorded(layer.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(features.detach().float()), layer(features.detach().float()))
    assert operators == [[]]


@pytest.mark.parametrize("name", ["group", "lifting"])
def test_the_operator_of_compilers_is_one_that_pytorch_takes(name):
    layer, channels = build(name, "p4")
    set_execution(layer, "irreps")
    features = torch.randn(2, channels, 4, 3, dtype=torch.float64, requires_grad=True)
    weight, index = layer._irrep_weight()
    given = (features, weight, layer.bias, index, layer.irrep_window.numbers)
    torch.library.opcheck(torch.ops.e4profile.irrep_convolution.default, given)
    macs = layer.cost(features.shape).total_macs
    with FlopCounterMode(display=False) as counted:
        output = torch.ops.e4profile.irrep_convolution(*given)
        assert counted.get_total_flops() == 2 * macs
        output.sum().backward()
        assert counted.get_total_flops() == 3 * 2 * macs
        torch.ops.e4profile.irrep_convolution(features.detach(), *given[1:]).sum().backward()
        assert counted.get_total_flops() == 5 * 2 * macs  # images need no gradient


def test_auto_of_images_and_of_input_fields_apart_is_the_bank():
    # three channels save few products for the transform of each output field
    lifting = LiftingConv2d(3, 256, 3, group="p4m", padding=1, execution="auto")
    assert not lifting.in_irreps((32, 3, 32, 32))
    g, gc = (
        SeparableGroupConv2d(256, 256, 3, group="p4m", kind=kind, pointwise_execution="auto") for kind in ("g", "gc")
    )
    assert [one.in_irreps((32, 2048, 16, 16)) for one in (g, gc)] == [False, True]
    naive = SeparableGroupConv2d(4, 4, 3, group="p4", execution="naive", pointwise_execution="irreps")
    assert not naive.in_irreps((1, 16, 8, 8))
