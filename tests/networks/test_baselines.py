"""Table 1's baselines: every named term at the published setting, what runs, and what a rotation does."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from e4profile.conventions import ATTENTION, ATTENTION_NAIVE, CONVOLUTION, LINEAR, MAC_KINDS, NORM_KINDS
from e4profile.errors import SettingError
from e4profile.groups import as_group
from e4profile.layers.base import layer_cost
from e4profile.layers.containers import trace
from e4profile.networks import NETWORKS
from e4profile.networks.cards import find_card
from e4profile.networks.p4_sa import p4_sa
from e4profile.networks.published import agrees_rounded, agrees_truncated
from e4profile.networks.stacks import alpha_p4_cnn, p4_cnn
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.stock import count_stock
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise

CARDS = ("p4-sa", "p4-cnn", "alpha-p4-cnn")
IMAGE = (1, 1, 28, 28)


@lru_cache
def built(name, **overrides):
    return find_card(name).with_arguments(overrides).build()


def by_layer(model):
    """Parameters and operations by (layer class, term), summed over the network."""
    params, operations = Counter(), Counter()
    for step in trace(model, IMAGE)[1]:
        cost = layer_cost(step.form, step.input_shape)
        layer = type(step.module).__name__
        params.update({(layer, term): amount for term, amount in cost.params.items()})
        for terms in (cost.macs, cost.elements):
            operations.update({(layer, term): amount for term, amount in terms.items()})
    return params, operations


@pytest.mark.parametrize(("width", "params", "macs"), [(19, 77_539, 41_682_352), (20, 85_220, 46_157_120)])
def test_p4_cnn_figures(width, params, macs):
    count = count_closed_form(built("p4-cnn", width=width), IMAGE)
    assert (count.params, count.macs) == (params, macs)


def test_alpha_p4_cnn_figures():
    model = built("alpha-p4-cnn")
    count = count_closed_form(model, IMAGE)
    assert count.params == 73_130
    assert count.operations[CONVOLUTION] == 26_757_920
    assert count.operations[ATTENTION] == 192_160
    assert count.macs == 26_757_920 + 192_160
    assert count.total("fvcore") == 26_875_360
    assert count.total("printed") == 27_051_520


def test_alpha_p4_cnn_terms():
    params, operations = by_layer(built("alpha-p4-cnn"))
    lifting, group, norm = "AttentiveLiftingConv2d", "AttentiveGroupConv2d", "FieldBatchNorm2d"
    assert params == {
        (lifting, "kernel"): 90, (lifting, "channel gate"): 20, (lifting, "spatial gate"): 980,
        (group, "kernel"): 18_000 + 6_400, (group, "channel gate"): 20_000 + 4_000,
        (group, "spatial gate"): 19_600 + 3_920, (norm, "weight"): 60, (norm, "bias"): 60,
    }  # fmt: skip
    assert operations == {
        (lifting, "convolution"): 243_360, (lifting, "spatial gate"): 2_649_920,
        (lifting, "channel gate"): 160,
        (group, "convolution"): 11_404_800 + 25_600, (group, "spatial gate"): 12_418_560 + 15_680,
        (group, "channel gate"): 192_000, (norm, "norm"): 58_720,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("group", "params", "linear", "executed", "naive", "macs"),
    [
        ("p4", 44_428, 54_176_480, 169_706_016, 342_938_016, 223_882_496),
        ("C16", 44_668, 216_070_880, 2_912_952_704 - 216_070_880, 16_555_441_824, 2_912_952_704),
    ],
)
def test_p4_sa_figures(group, params, linear, executed, naive, macs):
    count = count_closed_form(built("p4-sa", group=group), IMAGE)
    assert count.params == params
    assert count.operations[CONVOLUTION] + count.operations[LINEAR] == linear
    assert count.operations[ATTENTION] == executed
    assert count.operations[ATTENTION_NAIVE] == naive
    assert count.macs == macs
    for convention in ("printed", "fvcore"):
        assert count.total(convention) == linear + naive + 5 * count.operations["group_norm"]


def test_p4_sa_published_total():
    count = count_closed_form(built("p4-sa"), IMAGE)
    assert 5 * count.operations["group_norm"] == 2_453_600
    assert count.total("printed") == 399_568_096


def test_p4_sa_terms():
    params, operations = by_layer(built("p4-sa"))
    lifting, group, pointwise = "LiftingSelfAttention2d", "GroupSelfAttention2d", "PointwiseConv2d"
    assert params == {
        (lifting, "query, key, value"): 540, (lifting, "output"): 1_820, (lifting, "position networks"): 298,
        (group, "query, key, value"): 28_350, (group, "output"): 9_100, (group, "position networks"): 1_150,
        (group, "group table"): 80,
        (pointwise, "weight"): 5 * 400 + 200, (pointwise, "bias"): 5 * 30,
        ("FieldLayerNorm", "weight"): 20 + 200 + 150, ("FieldLayerNorm", "bias"): 20 + 200 + 150,
    }  # fmt: skip
    naive = operations.pop((lifting, "naive attention")), operations.pop((group, "naive attention"))
    assert naive == (15_876_000, 57_744_000 + 34_646_400 + 3_695_616 + 230_976_000)
    norms = sum(operations.pop((layer, term)) for layer, term in tuple(operations) if "norm" in term)
    assert 5 * norms == 2_453_600
    assert operations == {
        (lifting, "query, key, value"): 211_680, (lifting, "output"): 5_644_800,
        (lifting, "position networks"): 19_200, (lifting, "content"): 1_764_000,
        (lifting, "positions"): 7_056_000, (lifting, "values"): 7_056_000,
        (group, "query, key, value"): 34_646_400, (group, "output"): 11_548_800,
        (group, "position networks"): 64_000, (group, "content"): 57_744_000,
        (group, "positions"): 34_646_400, (group, "group table"): 3_695_616, (group, "values"): 57_744_000,
        (pointwise, "convolution"): 2_028_800 + 12_800,
    }  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("name", "overrides"),
    [*((name, {}) for name in CARDS), ("p4-sa", {"group": "C16"}), ("p4-sa", {"relative_index": "equivariant"})],
)
def test_closed_form_is_what_runs(name, overrides, batch):
    model, shape = built(name, **overrides), (batch, 1, 28, 28)
    formula, counted = count_closed_form(model, shape), count_dispatch(model, (torch.empty(shape),))
    compared = (*MAC_KINDS, *NORM_KINDS)
    assert counted.uncounted == {}
    assert counted.operations == {kind: n for kind, n in formula.operations.items() if kind in compared}
    assert formula.params == sum(parameter.numel() for parameter in model.parameters())
    paths = [layer.path for layer in formula.layers]
    measured = counted.rolled_up(paths)
    for layer in formula.layers:
        expected = {kind: n for kind, n in layer.operations.items() if kind in compared}
        assert (layer.path, measured[layer.path].operations if expected else {}) == (layer.path, expected)


@pytest.mark.parametrize("name", CARDS)
def test_pytorch_counts_two_flops_per_mac(name):
    model = built(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(IMAGE, device="meta"))
    assert counter.get_total_flops() == 2 * count_closed_form(model, IMAGE).macs


@pytest.mark.parametrize("name", CARDS)
def test_printed_cells(name):
    card = find_card(name)
    (row,) = card.published
    for cell in filter(lambda cell: cell.compared, row.cells):
        model = card.with_arguments({**row.arguments, **cell.arguments}).build()
        count = count_closed_form(model, IMAGE)
        exact = count.params if cell.quantity == "params" else count.total(cell.convention)
        agrees = agrees_truncated if cell.rounding == "truncated" else agrees_rounded
        assert agrees(exact, cell.value), f"{name} {cell.quantity}: {exact} is not {cell.value}"


def test_fvcore_counts_our_gate_products():
    """The note in the card: the published rule leaves them out, and fvcore run on this module does not."""
    model = alpha_p4_cnn(width=2)
    inputs = torch.randn(IMAGE)
    formula = count_closed_form(model, IMAGE)
    raw = count_stock("fvcore", model, (inputs,))
    assert raw.macs - formula.total("fvcore") == formula.operations[ATTENTION] > 0


@pytest.mark.parametrize("index", ["published", "equivariant"])
def test_fvcore_counts_the_attention_that_we_execute(index):
    model = p4_sa(width=4, heads=2, head_channels=4, hidden=2, relative_index=index)
    formula = count_closed_form(model, IMAGE)
    raw = count_stock("fvcore", model, (torch.randn(IMAGE),))
    difference = formula.operations[ATTENTION] - formula.operations[ATTENTION_NAIVE]
    assert raw.macs - formula.total("fvcore") == difference < 0


def errors_of(model, group="p4", seed=0):
    model = randomise(model.double().eval(), seed=seed)
    torch.manual_seed(seed)
    images = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    return equivariance_errors(model, images, as_group(group), "trivial", "invariant")


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("network", [p4_cnn, alpha_p4_cnn])
def test_the_convolutional_baselines_are_invariant(network, group):
    errors = errors_of(network(width=4, group=group), group)
    assert len(errors) == as_group(group).order
    assert max(errors) < 1e-12


def test_p4_sa_is_invariant_only_when_repaired():
    small = {"width": 6, "heads": 2, "head_channels": 6, "hidden": 4}
    published = errors_of(p4_sa(**small, relative_index="published"))
    repaired = errors_of(p4_sa(**small, relative_index="equivariant"))
    assert min(published[1:]) > 1e-7
    assert max(repaired) < 1e-12


def test_p4_sa_at_default_initialisation_is_not_invariant_as_published():
    torch.manual_seed(3)
    model = p4_sa(relative_index="published").double().eval()
    images = torch.randn(1, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        logits, turned = model(images), model(torch.rot90(images, 1, (-2, -1)))
    error = float((logits - turned).abs().max() / logits.abs().max())
    # 1.0e-3 to 2.6e-3 was measured on the released code; the size depends on the draw
    assert 1e-4 < error < 1e-2


def test_order_16_is_exact_under_quarter_turns_when_repaired():
    model = p4_sa(group="C16", width=2, heads=1, head_channels=4, hidden=2, kernel=3, crops=(1,), pool_after=0)
    model = randomise(model.double().eval(), seed=5)
    images = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    assert max(equivariance_errors(model, images, as_group("p4"), "trivial", "invariant")) < 1e-11


@pytest.mark.parametrize("name", sorted(find_card(name).network for name in CARDS))
def test_trains_on_cpu(name):
    torch.manual_seed(4)
    small = {"heads": 1, "head_channels": 4} if name == "p4_sa" else {}
    model = NETWORKS[name](width=4, **small)
    logits = model.train()(torch.randn(2, 1, 28, 28))
    assert logits.shape == (2, 10)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 7])).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


def test_p4_sa_refuses_a_pool_without_a_block():
    with pytest.raises(SettingError, match=r"pool_after \(=3\) must be in 0..2"):
        p4_sa(crops=(1, 1), pool_after=3)


def test_crops_that_leave_nothing_say_where():
    with pytest.raises(SettingError, match=r"block1.*margin \(=14\) leaves nothing"):
        count_closed_form(p4_sa(width=2, heads=1, crops=(14,), pool_after=0), IMAGE)
