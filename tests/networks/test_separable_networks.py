from __future__ import annotations

import pytest
import torch
from torch import nn

from e4profile.conventions import CHARGE_KINDS
from e4profile.errors import SettingError
from e4profile.groups import as_group
from e4profile.layers.norm import FieldBatchNorm2d
from e4profile.layers.summary_tool import CountedAgain
from e4profile.networks.cards import all_cards
from e4profile.networks.published import judge
from e4profile.networks.resnets import separable_cifar
from e4profile.networks.stacks import separable_mnist
from e4profile.witnesses.counts.base import differences
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise

# name: parameters, convolution MACs that run, what the card's convention gives
MNIST = {
    "z2cnn": (25_210, 2_979_280, 2_979_280),
    "c-z2cnn": (25_603, 4_119_960, 4_143_900),
    "p4cnn": (24_810, 11_673_760, 11_673_760),
    "g-p4cnn-small": (8_910, 4_758_560, 4_369_760),
    "g-p4cnn": (25_255, 13_462_640, 12_339_008),
    "gc-p4cnn-small": (3_420, 2_186_720, 1_797_920),
    "gc-p4cnn": (24_640, 16_505_760, 13_006_560),
}
# name: parameters, MACs that run, what the card's convention gives
CIFAR = {
    "resnet44": (2_636_458, 388_859_136, 394_134_560),
    "p4m-resnet44": (2_621_829, 3_069_943_312, 3_075_188_253),
    "g-p4m-resnet44": (1_782_381, 2_160_089_024, 2_069_033_329),
    "gc-p4m-resnet44": (1_884_270, 2_368_889_600, 2_167_177_348),
}
NAMES = [*MNIST, *CIFAR]


@pytest.fixture(scope="module")
def counts():
    return {name: count_closed_form(card.build(), card.input_shape()) for name, card in all_cards().items()
            if name in NAMES}  # fmt: skip


def macs_cell(name):
    (row,) = all_cards()[name].published
    return next(cell for cell in row.cells if cell.quantity == "macs")


@pytest.mark.parametrize("name", NAMES)
def test_a_row_comes_out_exactly(name, counts):
    params, executed, charged = {**MNIST, **CIFAR}[name]
    count = counts[name]
    assert count.params == params
    assert count.total("convolution" if name in MNIST else "macs") == executed
    assert count.total(macs_cell(name).convention) == charged


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_the_verdict_that_building_it_gives(name, counts):
    (row,) = all_cards()[name].published
    compared = [cell for cell in row.cells if cell.compared and cell.quantity != "gpu_memory"]
    assert [cell.quantity for cell in compared] == ["params", "macs"]
    for cell in compared:
        built = counts[name].params if cell.quantity == "params" else counts[name].total(cell.convention)
        assert judge(built, cell).verdict == cell.verdict != "unresolved"


@pytest.mark.parametrize("name", MNIST)
def test_one_rule_prints_the_whole_mnist_column(name, counts):
    """Norm and classifier weights stay below the printed digits in the rows whose cards leave them out."""
    assert judge(counts[name].total("summary-tool"), macs_cell(name)).verdict != "unresolved"


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_form_is_what_runs_layer_by_layer(name, counts):
    card = all_cards()[name]
    model = card.build()
    counted = count_dispatch(model, (torch.empty(card.input_shape(), device="meta"),))
    assert counted.uncounted == {}
    assert differences(counts[name], counted) == []
    assert counted.params == sum(parameter.numel() for parameter in model.parameters())


def by_cause(count):
    causes: dict[str, int] = {}
    for layer in count.layers:
        for term, amount in layer.terms.items():
            if set(layer.operations) & set(CHARGE_KINDS) and amount:
                causes[term] = causes.get(term, 0) + amount
    return causes


def test_every_cause_of_a_wrong_charge_has_a_name(counts):
    plain = by_cause(counts["c-z2cnn"])
    assert plain == {"weights counted again": 22_971, "norm weights": 7 * 57}
    resnet = by_cause(counts["resnet44"])
    inside_blocks = 2_636_458 - 864 - 2 * 128 - 1_290 - (448 + 864 + 1_728 + 192)
    assert resnet["norm weights"] == 3_360
    # a block's weights for the block and for its stage, a shortcut's for the shortcut too
    assert resnet["weights counted again"] == 2 * inside_blocks + (32 * 64 + 64 * 128) + (64 + 128)
    assert resnet["convolutions below depth 3"] == -(32 * 64 * 16**2 + 64 * 128 * 8**2)
    assert resnet["norm weights below depth 3"] == -(64 + 128)
    separable = by_cause(counts["gc-p4m-resnet44"])
    at_input_less_output = 28 * 56 * 64 * (32**2 - 16**2) + 56 * 112 * 64 * (16**2 - 8**2)
    assert separable["pointwise charged at output positions"] == -at_input_less_output


@pytest.mark.parametrize("name", NAMES)
def test_executed_plus_the_named_causes_is_the_charge(name, counts):
    operations, count = counts[name].operations, counts[name]
    causes = sum(operations.get(kind, 0) for kind in CHARGE_KINDS)
    assert count.macs + causes == count.total("summary-tool-depth-3")
    without_depth = causes - operations.get("below_depth", 0)
    assert count.macs + without_depth == count.total("summary-tool")


def tool_charge(model, inputs):
    """The tool's rule on a running network: every module's weights, a convolution's times its positions."""
    total = 0

    def charge(module, _, output):
        nonlocal total
        # the other modules have no counterpart in the published code
        counted = isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, FieldBatchNorm2d, CountedAgain))
        if "Conv" in type(module).__name__ and not isinstance(module, CountedAgain):
            per_field = module.group.order if hasattr(module, "group") else 1
            positions = per_field * output.shape[2] * output.shape[3]
        elif counted:
            positions = 1
        else:
            return
        total += positions * sum(p.numel() for name, p in module.named_parameters() if "weight" in name)

    handles = [module.register_forward_hook(charge) for module in model.modules()]
    model(inputs)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_tool_rule_agrees_with_an_emulation_on_the_running_network(name, counts):
    card = all_cards()[name]
    with torch.no_grad():
        charged = tool_charge(card.build(), torch.empty(card.input_shape(), device="meta"))
    assert counts[name].total("summary-tool") == charged


@pytest.mark.parametrize("execution", ["factored", "naive"])
@pytest.mark.parametrize(("group", "kind"), [("p4", "g"), ("p4", "gc"), ("p4m", "gc"), ("p4", "full")])
def test_the_mnist_network_is_exactly_invariant(group, kind, execution):
    model = randomise(separable_mnist(group=group, width=2, kind=kind, execution=execution).double().eval())
    images = torch.randn(1, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert max(equivariance_errors(model, images, as_group(group), "trivial", "invariant")) < 1e-10


@pytest.mark.parametrize("kind", ["g", "gc"])
def test_both_executions_of_a_network_agree_and_train(kind):
    arguments = {"group": "p4m", "widths": [2, 3], "kind": kind, "depth": 1}
    factored = randomise(separable_cifar(**arguments).double())
    naive = separable_cifar(**arguments, execution="naive").double()
    naive.load_state_dict(factored.state_dict())
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    first, second = factored(images), naive(images)
    assert float((first - second).detach().abs().max()) < 1e-10 * float(first.detach().abs().max())
    first.square().sum().backward()
    assert all(parameter.grad is not None for parameter in factored.parameters())


def test_the_naive_network_costs_what_the_full_one_costs_and_says_what_multiplying_out_adds(counts):
    card = all_cards()["g-p4cnn-small"]
    naive = card.with_arguments({"execution": "naive"})
    count = count_closed_form(naive.build(), naive.input_shape())
    assert count.macs == counts["p4cnn"].macs
    assert count.params == counts["g-p4cnn-small"].params
    assert count.operations["expansion"] == 10 * 10 * 4 * (5 * 9 + 16)
    assert count.total("summary-tool") == counts["g-p4cnn-small"].total("summary-tool")


def test_refuses_what_cannot_be():
    with pytest.raises(SettingError, match=r"kind \(='c'\) separates plain convolutions"):
        separable_mnist(group="p4", width=2, kind="c")
    with pytest.raises(SettingError, match=r"kind \(='x'\)"):
        separable_mnist(group="p4", width=2, kind="x")
    with pytest.raises(SettingError, match="widths"):
        separable_cifar(group="p4", widths=[])
