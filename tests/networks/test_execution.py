"""One network, two executions of its group convolutions: the same function at other costs."""

from __future__ import annotations

import copy

import pytest
import torch

from e4profile.conventions import MAC_KINDS, TRANSFORM
from e4profile.errors import UnknownNameError
from e4profile.layers import GroupConv2d, set_execution
from e4profile.networks.cards import all_cards, find_card
from e4profile.subjects.subject import of_card
from e4profile.witnesses.counts.closed_form import count_closed_form, training_step_macs
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.training_step import count_training_step

SMALL = {"p4m-r18": {"width": 4, "blocks": [1, 1]}, "p4m-e4r18": {"width": 4, "blocks": [1, 1]}, "e4net": {"width": 8}}


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("execution", ["bank", "irreps", "auto"])
def test_every_execution_has_the_closed_form_that_runs(name, execution):
    card = find_card(name).with_arguments({**SMALL[name], "execution": execution})
    model, shape = card.build(), card.input_shape(2)
    form, run = count_closed_form(model, shape), count_dispatch(model, (torch.empty(shape, device="meta"),))
    stated = {kind: amount for kind, amount in form.operations.items() if kind in MAC_KINDS}
    assert stated == {kind: amount for kind, amount in run.operations.items() if kind in MAC_KINDS}
    assert form.params == run.params
    assert run.uncounted == {}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_training_step_costs_what_runs(name):
    computed_again = set()
    for execution in ("bank", "irreps"):
        subject = of_card(find_card(name).with_arguments({**SMALL[name], "execution": execution}))
        model = subject.build("cpu")
        step = count_training_step(model, subject.input, batch_size=2)
        stated = training_step_macs(model, (2, *subject.input))
        assert (step.forward, step.unknown) == (stated.forward, {})
        computed_again.add(step.backward - stated.backward)
    # E4 layers make their stencils again in backward, which their closed form leaves out; nothing else does
    assert len(computed_again) == 1
    assert computed_again == {0} or "e4" in name


def test_the_function_stays_and_so_does_the_state():
    for name, arguments in SMALL.items():
        card = find_card(name).with_arguments(arguments)
        model = card.build("cpu").double()
        other = set_execution(copy.deepcopy(model), "irreps")
        assert list(other.state_dict()) == list(model.state_dict())
        other.load_state_dict(model.state_dict())
        images = torch.randn(2, *card.input, dtype=torch.float64)
        wanted, found = model(images), other(images)
        assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()
        for one, two in zip(
            torch.autograd.grad(wanted.square().sum(), [*model.parameters()]),
            torch.autograd.grad(found.square().sum(), [*other.parameters()]),
            strict=True,
        ):
            assert (one - two).abs().max() <= 1e-10 * one.abs().max()


def test_a_whole_network_is_switched_and_back():
    model = find_card("p4m-r18").build()
    shape = (1, 3, 32, 32)
    before = count_closed_form(model, shape)
    counts = {execution: count_closed_form(set_execution(model, execution), shape) for execution in ("irreps", "bank")}
    assert counts["bank"] == before
    assert counts["irreps"].macs * 5 < before.macs
    assert counts["irreps"].params == before.params
    assert counts["irreps"].operations[TRANSFORM] > 0 == before.operations.get(TRANSFORM, 0)
    with pytest.raises(UnknownNameError, match="unknown execution 'fft'"):
        set_execution(model, "fft")
    assert {part.execution for part in model.modules() if isinstance(part, GroupConv2d)} == {"bank"}


def test_every_topology_takes_an_execution():
    for card in (one for one in all_cards().values() if one.network):
        assert card.accepts("execution"), card.name
    with pytest.raises(UnknownNameError, match="'fft'"):
        find_card("p4m-r18").with_arguments({"execution": "fft"}).build()


def test_a_kept_transform_follows_the_weight():
    layer = GroupConv2d(2, 3, 3, group="p4", padding=1, execution="irreps").eval()
    features = torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        before = layer(features)
        assert torch.equal(layer(features), before)
        layer.weight.mul_(2)
        assert torch.allclose(layer(features), 2 * before)
        layer.weight.data.mul_(2)
        assert torch.allclose(layer(features), 4 * before)
        layer.execution = "bank"
        assert torch.allclose(layer(features), 4 * before, atol=1e-5)
        layer.execution = "irreps"
        assert torch.allclose(layer(features), 4 * before)


def test_auto_is_by_sizes_alone_and_the_closed_form_follows():
    wide, narrow = (GroupConv2d(c, c, 3, group="p4m", padding=1, execution="auto") for c in (88, 22))
    wide_shape, narrow_shape = (32, 88 * 8, 8, 8), (32, 22 * 8, 32, 32)
    one_small, one_narrow = ((1, *shape[1:-2], 2, 2) for shape in (wide_shape, narrow_shape))
    assert wide.in_irreps(wide_shape)
    assert narrow.in_irreps(narrow_shape)
    # what few positions save does not pay for the calls
    assert not wide.in_irreps(one_small)
    assert not narrow.in_irreps((1, *narrow_shape[1:]))
    # nor what few fields save for the additions
    few = GroupConv2d(8, 8, 3, group="p4m", padding=1, execution="auto")
    assert not few.in_irreps((32, 8 * 8, 32, 32))
    for layer, shape in ((wide, wide_shape), (wide, one_small), (narrow, narrow_shape), (narrow, one_narrow)):
        on_meta = layer.to("meta")
        assert layer.cost(shape).total_macs == count_dispatch(on_meta, (torch.empty(shape, device="meta"),)).macs
