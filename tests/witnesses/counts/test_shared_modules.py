"""A module that runs twice: its parameters count once, its work every time, forward and in training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.layers import Chain, E4Conv2d, GroupConv2d, Residual, Step, trace
from e4profile.layers.base import Shape
from e4profile.witnesses.counts.base import differences, layer_counts
from e4profile.witnesses.counts.closed_form import count_closed_form, count_forms, training_step_macs
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.memory.closed_form import predict_saved
from e4profile.witnesses.memory.saved import saved_for_backward

SHAPE = (2, 4, 6, 6)


def assert_exact(model: nn.Module, shape: Shape = SHAPE) -> None:
    """Closed forms equal what runs: forward layer by layer, the training step, and the memory for it."""
    closed, seen = count_closed_form(model, shape), count_dispatch(model, (torch.empty(shape, device="meta"),))
    assert differences(closed, seen) == []
    assert closed.params == sum(parameter.numel() for parameter in model.parameters())
    step, run = training_step_macs(model, shape), count_training_step(model, shape[1:], shape[0])
    assert (step.forward, step.backward) == (run.forward, run.backward)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def conv(kernel: int = 3, **arguments: bool) -> nn.Conv2d:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2, **arguments)


def test_the_first_layer_used_again_needs_the_gradient_of_its_input_the_second_time() -> None:
    shared = on_meta(lambda: nn.Conv2d(8, 8, 3, padding=1, bias=False))
    model, shape = Chain(first=shared, again=shared), (1, 8, 6, 6)
    step = training_step_macs(model, shape)
    assert count_closed_form(model, shape).macs == step.forward == 41_472
    assert step.total == 103_680
    assert [(layer.path, layer.backward_input) for layer in step.layers] == [("first", 0), ("again", 20_736)]
    assert_exact(model, shape)


def test_one_module_in_body_and_shortcut_stands_at_the_path_that_the_network_knows() -> None:
    shared = on_meta(conv)
    model = Residual(shared, shared)
    assert [layer.path for layer in count_closed_form(model, SHAPE).layers] == ["body"]
    assert [layer.backward_input for layer in training_step_macs(model, SHAPE).layers] == [0, 0]
    assert_exact(model)


def test_a_module_shared_by_nested_residuals() -> None:
    shared, norm = on_meta(conv), on_meta(lambda: nn.BatchNorm2d(4))
    inner = Residual(Chain(conv=shared, norm=norm), Chain(norm=norm, relu=nn.ReLU()))
    assert_exact(Chain(outer=Residual(Chain(inner=inner, again=shared), inner), last=inner))


def test_printed_parameters_of_a_shared_layer_count_once() -> None:
    shared = on_meta(lambda: E4Conv2d(1, 1, 3, group="p4"))
    once, twice = count_forms(Chain(one=shared), SHAPE)[1:], count_forms(Chain(one=shared, two=shared), SHAPE)[1:]
    assert twice == (once[0], 2 * once[1])


def test_a_foreign_forward_around_a_chain_that_shares() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = conv()
            self.body = Chain(relu=nn.ReLU(), conv=self.shared)

        def forward(self, maps: Tensor) -> Tensor:
            return self.body(self.body(maps)) + self.shared(maps)

    found = measure_module(Foreign(), SHAPE, ())
    assert (found.sizes, found.agrees) == ("recorded", True)
    assert found.closed.params == 148
    assert found.closed.macs == 3 * count_closed_form(conv(), SHAPE).macs


# without E4Conv2d, whose fused backward computes a part of the forward pass again
PARTS: dict[str, Callable[[], nn.Module]] = {
    "conv": conv,
    "point": lambda: conv(1, bias=False),
    "group": lambda: GroupConv2d(1, 1, 3, group="p4", padding=1),
    "norm": lambda: nn.BatchNorm2d(4),
    "plain norm": lambda: nn.BatchNorm2d(4, affine=False),
    "relu": nn.ReLU,
    "pool": lambda: nn.MaxPool2d(3, 1, 1),
}
LEAVES = st.sampled_from(sorted(PARTS))
NESTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.tuples(inner, st.none() | inner)
        # the second use of a whole part
        | st.builds(lambda part: [part, part], inner)
    ),
    max_leaves=8,
)


def built(nest: object, parts: dict[str, nn.Module]) -> nn.Module:
    """Lists are chains, pairs residuals; the same name or the same description is the same module."""
    key = repr(nest)
    if key not in parts:
        if isinstance(nest, list):
            parts[key] = Chain(**{f"part{index}": built(part, parts) for index, part in enumerate(nest)})
        else:
            body, shortcut = nest  # type: ignore[misc]
            parts[key] = Residual(built(body, parts), None if shortcut is None else built(shortcut, parts))
    return parts[key]


@given(NESTS)
@settings(max_examples=60, deadline=None)
def test_any_nest_with_shared_parts(nest: object) -> None:
    parts = {repr(name): on_meta(build) for name, build in PARTS.items()}
    # a step needs a parameter to differentiate
    assert_exact(Chain(nest=built(nest, parts), last=parts["'conv'"]))


@given(NESTS)
@example([["conv", "relu"], "relu"])
@example([(["conv", "relu"], None), "conv"])
@settings(max_examples=30, deadline=None)
def test_what_any_nest_saves_for_backward(nest: object) -> None:
    parts = {repr(name): on_meta(build) for name, build in PARTS.items()}
    model = Chain(nest=built(nest, parts), last=parts["'conv'"])
    assert (
        predict_saved(model, SHAPE[1:]).saved_bytes(2) == saved_for_backward(model, SHAPE[1:], batch_size=2).saved_bytes
    )


class Both(nn.Module):
    """A user-defined container: two branches, side by side and then mixed."""

    def __init__(self, one: nn.Module, two: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.mix = one, two, nn.Conv2d(8, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat([self.one(maps), self.two(maps)], 1))
        return mixed

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        one, first = trace(self.one, input_shape, f"{path}.one")
        _, second = trace(self.two, input_shape, f"{path}.two")
        # a shape made up from another
        out, third = trace(self.mix, (one[0], 8, *one[2:]), f"{path}.mix")
        return tuple(out), [*first, *second, *third]


def test_a_user_defined_container_counts_in_training_too() -> None:
    shared = on_meta(conv)
    model = Chain(stem=shared, both=on_meta(lambda: Both(shared, nn.ReLU())), last=shared)
    assert_exact(model)
    # nothing is learned before the mix, so the order tells
    assert_exact(on_meta(lambda: Chain(both=Both(nn.ReLU(), nn.MaxPool2d(3, 1, 1)), last=conv())))


def test_only_what_the_order_leaves_open_is_refused_and_only_in_training() -> None:
    model = on_meta(lambda: Chain(both=Both(conv(), nn.ReLU()), last=conv()))
    assert differences(count_closed_form(model, SHAPE), count_dispatch(model, (torch.empty(SHAPE),))) == []
    with pytest.raises(SettingError, match=r"both\.mix: whether its input depends on a parameter is not known"):
        training_step_macs(model, SHAPE)
    with pytest.raises(SettingError, match="both: Both states no saved terms"):
        predict_saved(model, SHAPE[1:])


def test_a_user_defined_sum_of_branches_depends_on_both() -> None:
    class Sum(Residual):
        def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
            kept, first = trace(self.body, input_shape, f"{path}.body")
            _, second = trace(self.shortcut, input_shape, f"{path}.shortcut")
            return kept, [*first, *second]

    assert_exact(on_meta(lambda: Chain(sum=Sum(nn.ReLU(), conv()), last=conv())))


def test_a_layer_whose_parameter_is_empty_is_listed() -> None:
    empty = nn.PReLU()
    empty.weight = nn.Parameter(torch.empty(0))
    assert [(one.path, one.params) for one in layer_counts(nn.Sequential(nn.ReLU(), empty), {})] == [("1", 0)]
