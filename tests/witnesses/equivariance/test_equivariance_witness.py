"""The witness of equivariance finds what breaks it, where, and in which state."""

from __future__ import annotations

import math

import pytest
import torch
from program import says
from torch import nn

import e4profile
from e4profile.groups import GRID_EXACT, Group, as_group
from e4profile.layers import Chain, FieldGroupNorm, GroupConv2d, GroupMaxPool, LiftingConv2d
from e4profile.questions.equivariance.rows import report_rows
from e4profile.subjects.inputs import Example, as_example
from e4profile.subjects.subject import resolve
from e4profile.witnesses.equivariance.layers import assert_equivariant, equivariance_errors, randomise
from e4profile.witnesses.equivariance.probe import same_motion
from e4profile.witnesses.equivariance.report import (
    AT_INIT,
    AT_INIT_ONLY,
    EQUIVARIANT,
    NOT_EQUIVARIANT,
    RANDOMISED,
    TRAINED,
)
from e4profile.witnesses.equivariance.witness import witness, witness_of

IMAGES = (1, 1, 9, 9)


def network(group: str = "p4", *, affine: str = "field", middle: nn.Module | None = None) -> Chain:
    torch.manual_seed(0)
    return Chain(
        lift=LiftingConv2d(1, 2, 3, group=group, padding=1),
        norm=FieldGroupNorm(2, group=group, affine=affine),  # type: ignore[arg-type]
        middle=middle,
        conv=GroupConv2d(2, 2, 3, group=group, padding=1),
        pool=GroupMaxPool(2, group=group),
        globally=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
    )


def report(model: nn.Module, shape: tuple[int, ...] = IMAGES, **options):
    return witness(model, as_example(shape, torch.float32), **options)


@pytest.mark.parametrize("group", ["p4", "D1", "D2", "p4m"])
def test_an_equivariant_network_is_found_so(group: str) -> None:
    found = report(network(group))
    assert found.verdict == EQUIVARIANT
    assert found.broken == []
    assert set(found.output) == {AT_INIT, RANDOMISED, TRAINED}
    assert all(len(errors) == as_group(group).order for errors in found.output.values())
    assert {layer.path for layer in found.layers} == {"lift", "norm", "conv", "pool", "globally"}
    assert all(layer.worst(state) is not None for layer in found.layers for state in found.output)


def test_the_output_errors_are_those_of_the_plain_definition() -> None:
    model = network(affine="channel")
    example = as_example(IMAGES, torch.float64)
    found = witness(model, example, seed=4)
    plain = randomise(network(affine="channel").double().eval(), seed=4)
    errors = equivariance_errors(plain, example.positional[0], as_group("p4"), "trivial", "invariant")
    assert found.output[RANDOMISED] == pytest.approx(errors, rel=1e-9)
    assert max(errors) > 0.01


def test_a_norm_that_holds_at_initialisation_only_is_named() -> None:
    found = report(network(affine="channel"))
    assert found.verdict == AT_INIT_ONLY
    (layer,) = found.broken
    assert layer.path == "norm"
    assert layer.reason is not None
    assert layer.worst(AT_INIT) < 1e-10 < layer.worst(TRAINED) < layer.worst(RANDOMISED)  # type: ignore[operator]
    text = " ".join(found.findings)
    assert "equivariant at initialisation only under p4" in text
    assert "breaks at norm (FieldGroupNorm)" in text


def test_without_steps_there_is_no_trained_state() -> None:
    assert set(report(network(), train_steps=0).output) == {AT_INIT, RANDOMISED}


class Turned(nn.Module):
    """A wrong layer: it looks to one side, and says that it keeps regular fields."""

    field_in = field_out = "regular"

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group

    def forward(self, features):
        return features + features.roll(1, dims=-1)


def test_only_the_wrong_layer_is_blamed() -> None:
    found = report(network(middle=Turned(as_group("p4"))))
    assert found.verdict == NOT_EQUIVARIANT
    assert [layer.path for layer in found.broken] == ["middle"]
    errors = found.broken[0].errors[AT_INIT]
    assert errors[0] == 0
    assert min(errors[1:]) > 0.01  # type: ignore[type-var]


def test_a_pool_that_leaves_a_border_out_is_blamed() -> None:
    # 2x2 windows on 9 pixels leave one row and one column out
    found = report(network(middle=nn.MaxPool2d(2)))
    assert [layer.path for layer in found.broken] == ["middle"]
    assert report(network(middle=nn.MaxPool2d(2)), (1, 1, 8, 8)).verdict == EQUIVARIANT


def test_a_cause_outside_the_compared_layers_is_said_to_be_there() -> None:
    lift = LiftingConv2d(1, 2, 3, group="p4")
    found = report(nn.Sequential(lift, nn.Conv2d(8, 2, 3), nn.Flatten()))
    assert found.verdict == NOT_EQUIVARIANT
    assert found.broken == []
    assert "the cause is outside them (not compared: 1 (Conv2d))" in found.findings[1]


def test_a_larger_group_than_the_networks_own() -> None:
    found = report(network("p4"), group="p4m")
    assert found.verdict == NOT_EQUIVARIANT
    assert max(found.output[AT_INIT][:4]) < 1e-10 < min(found.output[AT_INIT][5:])  # type: ignore[type-var]
    assert found.broken == []
    assert any(says(one, "layers of p4", "share with p4m") for one in found.findings)
    assert report(network("p4m"), group="p4").verdict == EQUIVARIANT


def test_a_motion_has_one_name_in_each_group() -> None:
    for acting in GRID_EXACT:
        for own in GRID_EXACT:
            for element in acting.elements:
                inner = same_motion(own, acting, element)
                if inner is None:
                    assert all(own.matrix(other) != acting.matrix(element) for other in own.elements)
                else:
                    assert own.matrix(inner) == acting.matrix(element)
    assert same_motion(as_group("C8"), as_group("p4"), 1) == 2
    assert [as_group("D2").element_name(element) for element in range(4)] == ["0°", "180°", "mirror", "mirror, 180°"]


def test_outputs_that_are_maps_move_with_the_input() -> None:
    lift = LiftingConv2d(1, 2, 3, group="p4", padding=1)
    assert report(lift).verdict == EQUIVARIANT
    assert report(lift, field_out="trivial").output[AT_INIT][1] > 0.01
    regular = GroupConv2d(2, 2, 3, group="p4", padding=1)
    assert report(regular, (1, 8, 5, 5), field_in="regular").verdict == EQUIVARIANT
    # as the layer itself declares
    assert report(regular, (1, 8, 5, 5)).verdict == EQUIVARIANT
    assert report(regular, (1, 8, 5, 5), field_in="trivial").verdict == NOT_EQUIVARIANT


def test_several_outputs_and_keywords() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, *, image, scale):
            return {"logits": self.inner(image) * scale, "image": image}

    both = Both()
    inputs = as_example({"image": IMAGES, "scale": 2}, torch.float64)
    assert witness(both, inputs).verdict == EQUIVARIANT
    with pytest.raises(e4profile.SettingError, match="nothing to move"):
        witness(both, as_example({"image": (1, 9), "scale": 2}, torch.float64))


def test_the_network_is_left_alone() -> None:
    model = network(affine="channel").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    report(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32
    assert all(not module._forward_hooks for module in model.modules())


def test_a_network_with_nothing_to_compare_says_so_and_gives_the_output() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(98, 2))
    found = report(plain, group="p4")
    assert found.verdict == NOT_EQUIVARIANT
    said = " ".join(found.findings)
    assert "no layer could be compared" in said
    assert f"the output's error is {max(found.output[AT_INIT]):.1e} at initialisation" in said  # type: ignore[type-var]
    assert "every compared layer holds" not in said


def test_a_network_that_is_invariant_by_itself_says_what_was_compared() -> None:
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    found = report(Mean(), group="p4", train_steps=0)
    assert found.verdict == EQUIVARIANT
    assert "no layer could be compared" in " ".join(found.findings)


def test_the_rows_of_the_output_have_a_name() -> None:
    rows = report_rows(report(network()))
    assert [row["path"] for row in rows[:5]] == ["output"] * 4 + ["lift"]
    assert all(row["layer"] is None for row in rows[:4])
    assert report_rows(report(GroupMaxPool(2, group="p4"), (1, 8, 5, 5), field_in="regular"))[-1]["path"] == "(network)"


def test_many_layers_are_not_all_listed() -> None:
    plain = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(20)), nn.AdaptiveAvgPool2d(1))
    said = " ".join(report(plain, group="p4").findings)
    assert "7 (Conv2d) and 12 more)" in said


def test_a_head_that_is_zero_at_first_is_not_equivariant_at_first() -> None:
    head = nn.Linear(98, 2)
    nn.init.zeros_(head.weight)
    found = report(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), head), group="p4")
    assert found.constant == (AT_INIT,)
    assert found.verdict == NOT_EQUIVARIANT


def test_an_output_that_ignores_the_input_proves_nothing() -> None:
    class Dead(nn.Module):
        def forward(self, x):
            return torch.zeros(1, 2, dtype=x.dtype)

    found = report(Dead(), group="p4")
    assert any("does not depend on the input" in text for text in found.notes)
    assert any("not trained" in text for text in found.notes)


def test_values_that_are_not_finite_never_hold() -> None:
    class Overflowing(nn.Module):
        def forward(self, x):
            return (x * 1e200 * 1e200).sum((2, 3))

    assert report(Overflowing(), group="p4", train_steps=0).verdict == NOT_EQUIVARIANT


def test_single_precision_has_its_own_tolerance() -> None:
    found = report(network(), dtype="float32")
    assert found.verdict == EQUIVARIANT
    assert any(error > 1e-10 for errors in found.output.values() for error in errors if error is not None)


def test_the_released_e4_network_is_flagged() -> None:
    frame = e4profile.check_equivariance("e4net", width=4, slices=1)
    assert frame.attrs["verdict"] == AT_INIT_ONLY
    assert frame.attrs["broken"] == [f"layer{i}.conv.squeeze_norm" for i in range(2, 8)]
    held = e4profile.check_equivariance("e4net", width=4, slices=1, squeeze_affine="field")
    assert held.attrs["verdict"] == EQUIVARIANT
    assert held["holds"].all()


def test_the_published_self_attention_breaks_and_its_repair_does_not() -> None:
    sizes = {"width": 2, "heads": 2, "head_channels": 4, "kernel": 3, "hidden": 2, "crops": [1], "pool_after": 0}
    found = {}
    for index in ("published", "equivariant"):
        target = resolve("p4-sa", ["1x1x10x10"], {**sizes, "relative_index": index})
        found[index] = witness_of(target)
    assert found["published"].verdict == NOT_EQUIVARIANT
    (layer,) = found["published"].broken
    assert layer.layer == "GroupSelfAttention2d"
    assert "relative_index='published'" in str(layer.reason)
    assert found["equivariant"].verdict == EQUIVARIANT


def test_a_value_that_is_no_number_is_no_small_error():
    images = torch.arange(16.0, dtype=torch.float64).reshape(1, 1, 4, 4)

    def breaks_when_turned(turned: torch.Tensor) -> torch.Tensor:
        return turned if torch.equal(turned, images) else turned / 0 * 0

    fields = {"field_in": "trivial", "field_out": "trivial"}
    assert equivariance_errors(breaks_when_turned, images, Group(4), **fields) == [0.0, math.inf, math.inf, math.inf]
    with pytest.raises(AssertionError, match="under element 1 of C4"):
        assert_equivariant(breaks_when_turned, images, Group(4), **fields)


@pytest.mark.parametrize(("moves", "error"), [(True, 1.0), (False, 0.0)])
def test_whole_numbers_are_the_same_or_not(moves: bool, error: float) -> None:
    class Place(nn.Module):
        def forward(self, image):
            order = image.flatten(1) if moves else image.flatten(1).sort(1).values
            return order.argmax(1)

    image = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    report = witness(Place(), Example((image,)), group="p4", train_steps=0)
    assert max(report.output["at_init"]) == error
