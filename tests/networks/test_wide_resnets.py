"""The Wide ResNets of Weiler & Cesa 2019: the experiments' parameters, restrictions, what a later library builds."""

from __future__ import annotations

import re

import pytest
import torch

from e4profile.errors import SettingError
from e4profile.groups import Group, as_group
from e4profile.layers import Restriction, SteerableConv2d
from e4profile.networks import NETWORKS
from e4profile.networks.cards import built_in_cards
from e4profile.witnesses.counts.base import differences
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.equivariance.layers import equivariance_errors, randomise

# name: parameters with fixparams and without, as the released experiments build them
PARAMS = {
    "wrn16-8-stl-d1d1d1": (10_017_717, 5_019_733),
    "wrn16-8-stl-d8d4d1": (11_957_234, 4_184_142),
    "wrn16-8-stl-d8d4d4": (10_791_956, 1_283_022),
    "wrn28-10-d1d1d1": (32_789_495, 16_442_165),
    "wrn28-7-d8d4d1": (18_195_726, 6_685_550),
    "wrn28-10-d8d4d1": (37_183_014, 13_632_110),
    "wrn28-10-c8c4c1": (37_170_767, 27_245_775),
}


def parameters_of(name, **arguments):
    model = built_in_cards()[name].with_arguments(arguments).build()
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PARAMS)
def test_the_parameters_are_those_of_the_experiments(name):
    assert tuple(parameters_of(name, fixparams=fix) for fix in (True, False)) == PARAMS[name]


@pytest.mark.parametrize("name", PARAMS)
def test_the_card_names_what_a_later_library_builds(name):
    notes = [note for note in built_in_cards()[name].notes if "later version" in note]
    if "d8d4d4" in name:  # no stage without rotations
        assert notes == []
        return
    numbers, kernels = notes[0].split("(kernels = ")
    sizes = [int(size) for size in re.findall(r"\d", kernels)]
    built = [parameters_of(name, fixparams=fix, kernels=sizes) for fix in (True, False)]
    assert [int(one.replace(",", "")) for one in re.findall(r"\d+(?:,\d{3})+", numbers)] == [
        built[0], PARAMS[name][0], built[1], PARAMS[name][1],
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*PARAMS, "wrn16-8-stl"])
def test_the_closed_form_is_what_runs_layer_by_layer(name):
    card = built_in_cards()[name]
    model = card.build()
    counted = count_dispatch(model, (torch.empty(card.input_shape(), device="meta"),))
    assert counted.uncounted == {}
    assert differences(count_closed_form(model, card.input_shape()), counted) == []


@pytest.mark.parametrize(("group", "restricted"), [("D8", ["D4", "D1"]), ("D4", None), ("C8", ["C4", "C2"])])
def test_the_logits_are_invariant_under_the_last_group(group, restricted):
    """At a size that the strides divide; a restriction that forgot a coset would show under every element but one."""
    model = NETWORKS["steerable_wide_resnet"](group=group, restricted=restricted, depth=10, widen=1, fixparams=True)
    images = torch.randn(1, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    randomise(model.double().eval())
    assert model.group == as_group((restricted or [group])[-1])
    assert max(equivariance_errors(model, images, model.group, "trivial", "invariant")) < 1e-10
    larger = as_group("D4")
    if restricted:
        assert max(equivariance_errors(model, images, larger, "trivial", "invariant")) > 1e-6


def test_cosets_share_out_a_group():
    for large in (Group(8, True), Group(8), Group(4, True), Group(12, True)):
        for small in (Group(n, m) for n in range(1, 9) for m in (False, True)):
            if large.rotations % small.rotations or small.mirrors > large.mirrors:
                with pytest.raises(SettingError, match=f"{small.name} is no subgroup of {large.name}"):
                    large.cosets_of(small)
                continue
            cosets = large.cosets_of(small)
            assert sorted(element for coset in cosets for element in coset) == list(large.elements)
            # the subgroup acts on each coset as it acts on itself
            for coset in cosets:
                for g in small.elements:
                    moved = [large.product(cosets[0][g], element) for element in coset]
                    assert moved == [coset[small.product(g, u)] for u in small.elements]


def test_what_cannot_be_built_is_named():
    build = NETWORKS["steerable_wide_resnet"]
    with pytest.raises(SettingError, match="D4 is no subgroup of C8"):
        build(group="C8", restricted=["D4", "D1"], depth=10, widen=1)
    with pytest.raises(SettingError, match=r"depth \(=20\) must be 6 n \+ 4"):
        build(group="D4", depth=20)
    with pytest.raises(SettingError, match=r"kernels \(=\[3\]\) must fit three stages"):
        build(group="D4", depth=10, kernels=[3])
    with pytest.raises(SettingError, match="gives 14 functions for the 9 taps"):
        SteerableConv2d(1, 1, 3, group="C4", cutoff=2.0)
    with pytest.raises(SettingError, match="takes 16 channels, not 8"):
        Restriction(2, group="D1", of="D4").dimensions((1, 8, 3, 3))
