"""Counting leaves everything as it was found, also when the forward raises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_globals

from e4profile.networks.cards import find_card
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.counts.registry import REGISTRY
from e4profile.witnesses.counts.stock import count_stock

COUNTERS: dict[str, Callable[..., Any]] = {
    "dispatch": count_dispatch,
    "dispatch in training": lambda model, inputs: count_dispatch(model, inputs, training=True),
    "dispatch for real": lambda model, inputs: count_dispatch(model, inputs, on_meta=False),
    **{name: partial(count_stock, name) for name, spec in REGISTRY.items() if spec.raw and spec.version},
    "all": lambda model, inputs: measure_module(model, tuple(inputs[0].shape)),
}
SHAPE = (1, 1, 28, 28)
GLOBAL_HOOKS = [name for name in vars(module_globals) if name.startswith("_global_") and "hook" in name]


class Explosion(Exception):
    pass


class Fuse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise Explosion("boom")


def network() -> nn.Module:
    """A network in which every module has its own mode, hooks are set, and a gradient is waiting."""
    model = find_card("e4net").with_arguments({"width": 2, "slices": 2, "kernel": 3}).build("cpu")
    for index, part in enumerate(model.modules()):
        part.training = index % 3 == 0
    model.layer1.register_forward_hook(lambda *_: None)
    model.layer2.register_forward_pre_hook(lambda *_: None)
    model.get_submodule("layer3.conv").register_buffer("extra", torch.full((2,), 3.0))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    next(model.parameters()).requires_grad_(False)
    return model


def everything(model: nn.Module) -> dict[str, Any]:
    parts = list(model.named_modules())
    return {
        "modes": {path: part.training for path, part in parts},
        "keys": list(model.state_dict()),
        "identities": {n: (id(t), t.data_ptr()) for n, t in model.state_dict(keep_vars=True).items()},
        "values": {n: t.detach().clone() for n, t in model.state_dict().items()},
        "buffers": {n: id(b) for n, b in model.named_buffers()},
        "requires grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "gradients": {n: p.grad for n, p in model.named_parameters()},
        "gradient values": {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        "hooks": {
            (path, name): list(value.items())
            for path, part in parts
            for name, value in vars(part).items()
            if "hook" in name and isinstance(value, dict)
        },
        "attributes": {path: sorted(vars(part)) for path, part in parts},
        "classes": {path: type(part) for path, part in parts},
        "global hooks": {name: str(getattr(module_globals, name)) for name in GLOBAL_HOOKS},
        "random state": torch.get_rng_state(),
        "threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for what, value in before.items():
        if what in ("values", "gradient values"):
            assert value.keys() == after[what].keys(), what
            assert all(torch.equal(value[name], after[what][name]) for name in value), what
        elif what == "gradients":
            assert all(value[name] is after[what][name] for name in value), what
        elif what == "random state":
            assert torch.equal(value, after[what]), what
        else:
            assert value == after[what], what


@pytest.mark.parametrize("counter", COUNTERS)
def test_the_model_is_left_as_it_was_found(counter: str) -> None:
    model, image = network(), torch.randn(SHAPE)
    kept = image.clone()
    before = everything(model)
    COUNTERS[counter](model, (image,))
    if counter == "dispatch for real":
        before.pop("attributes")
    assert_same(before, everything(model))
    assert torch.equal(image, kept)


@pytest.mark.parametrize("counter", COUNTERS)
def test_also_when_the_forward_raises(counter: str) -> None:
    model, image = network(), torch.randn(SHAPE)
    model.add_module("fuse", Fuse())
    before = everything(model)
    with pytest.raises(Explosion):
        COUNTERS[counter](model, (image,))
    assert_same(before, everything(model))


@pytest.mark.parametrize("counter", COUNTERS)
def test_counting_after_a_failure_gives_what_counting_before_it_gave(counter: str) -> None:
    model, image = network(), torch.randn(SHAPE)

    def total() -> Any:
        counted = COUNTERS[counter](model, (image,))
        return counted.dispatch.macs if counter == "all" else counted.macs

    first = total()
    model.add_module("fuse", Fuse())
    with pytest.raises(Explosion):
        total()
    del model._modules["fuse"]
    assert total() == first


def test_a_users_own_global_hook_stays_and_still_fires() -> None:
    seen: list[str] = []
    handle = module_globals.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        count_dispatch(nn.Conv2d(1, 1, 1), (torch.empty(1, 1, 2, 2),))
        assert seen == ["Conv2d"]
        nn.ReLU()(torch.ones(1))
        assert seen == ["Conv2d", "ReLU"]
    finally:
        handle.remove()


@pytest.mark.parametrize("counter", COUNTERS)
def test_modules_and_weights_that_a_model_holds_twice_stay_shared_and_real(counter: str) -> None:
    conv, tied = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
    tied.weight = conv.weight
    model = nn.Sequential(conv, nn.ReLU(), tied, conv)
    image = torch.randn(SHAPE)
    before = everything(model)
    COUNTERS[counter](model, (image,))
    assert model[2].weight is model[0].weight is model[3].weight
    assert model[0].weight.device.type == "cpu"
    if counter == "dispatch for real":
        before.pop("attributes")
    assert_same(before, everything(model))
