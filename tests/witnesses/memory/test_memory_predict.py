"""Training state against PyTorch's optimisers; the largest batch against every batch around it."""

from __future__ import annotations

import pytest
import torch
from memory_nets import group_net, plain_stack
from torch import nn

from e4profile.errors import SettingError, UnknownNameError
from e4profile.witnesses.memory.peak import allocator_emulation, allocator_peak
from e4profile.witnesses.memory.saved import saved_for_backward
from e4profile.witnesses.memory.step import (
    MOMENTS,
    _largest_that_fits,
    largest_batch,
    predict,
    training_state_bytes,
    training_state_of,
)

OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def held_bytes(optimiser: torch.optim.Optimizer) -> int:
    tensors = (value for state in optimiser.state.values() for value in state.values())
    return sum(value.untyped_storage().nbytes() for value in tensors if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MOMENTS)
def test_training_state_is_what_the_optimiser_holds(name, dtype):
    model = group_net().to(dtype)
    model.body.generator_bias.requires_grad_(False)
    optimiser = OPTIMISERS[name](model.parameters())
    model(torch.zeros(2, 1, 12, 12, dtype=dtype)).sum().backward()
    optimiser.step()
    state = training_state_of(model, name)
    assert state.optimiser_bytes == held_bytes(optimiser)
    assert state.parameter_bytes == sum(p.untyped_storage().nbytes() for p in model.parameters())
    assert state.gradient_bytes == sum(
        p.grad.untyped_storage().nbytes() for p in model.parameters() if p.grad is not None
    )
    assert state.state_bytes == state.parameter_bytes + state.gradient_bytes + state.optimiser_bytes


def test_training_state_from_a_count():
    state = training_state_bytes(1000, "adam", torch.bfloat16, tensors=3, frozen=100)
    assert (state.parameter_bytes, state.gradient_bytes) == (2000, 1800)
    assert state.optimiser_bytes == 2 * 1800 + 3 * 4
    with pytest.raises(UnknownNameError, match="did you mean adam"):
        training_state_bytes(1000, "adamm")
    with pytest.raises(SettingError, match=r"frozen \(=1001\)"):
        training_state_bytes(1000, frozen=1001)


def test_prediction_is_made_of_the_witnesses():
    model = group_net()
    step = predict(group_net, (1, 12, 12), 5, optimiser="momentum")
    saved = saved_for_backward(model, (1, 12, 12), batch_size=5)
    assert step.saved_bytes == saved.saved_bytes
    assert step.saved_bytes == step.saved_constant_bytes + 5 * step.saved_per_image_bytes
    assert step.peak_bytes == allocator_emulation(model, (1, 12, 12), batch_size=5).peak_bytes
    assert step.input_bytes == 5 * 12 * 12 * 4
    assert step.buffer_bytes == sum(b.untyped_storage().nbytes() for b in model.buffers())
    parameters = 4 * sum(p.numel() for p in model.parameters())
    # parameters and velocities; the gradients are in the peak
    assert step.step_bytes == 2 * parameters + step.buffer_bytes + step.input_bytes + step.peak_bytes
    assert step.peak_bytes > step.saved_bytes


def test_a_network_that_would_not_fit_is_predicted():
    step = predict(lambda: plain_stack(20_000), (1, 28, 28), 1 << 20, optimiser="adam")
    assert step.step_bytes > 1 << 48
    assert step.state.optimiser_bytes > 2 * step.state.parameter_bytes


@pytest.mark.parametrize("budget_bytes", [5 << 20, (64 << 20) + 4321])
@pytest.mark.parametrize("builder", [group_net, lambda: plain_stack(5)], ids=["e4", "plain"])
def test_one_image_more_does_not_fit(builder, budget_bytes):
    shape = (1, 28, 28)
    largest = largest_batch(builder, shape, budget_bytes, optimiser="adam")
    here = predict(builder, shape, largest.batch_size, optimiser="adam")
    beyond = predict(builder, shape, largest.batch_size + 1, optimiser="adam")
    assert here.step_bytes == largest.step_bytes <= budget_bytes
    assert beyond.step_bytes == largest.next_step_bytes > budget_bytes


def test_few_evaluations_find_the_largest_batch():
    def law(batch: int) -> int:
        asked.append(batch)
        return max(1_000_000 + 997 * batch, 300_000 + 1511 * batch) // 512 * 512

    for budget in (1_002_000, 1_500_000, 3_000_000, 10**9, 10**12):
        asked: list[int] = []
        found = _largest_that_fits(law, budget, 1)
        assert law(found) <= budget < law(found + 1)
        assert len(set(asked)) < 20


def test_a_budget_below_one_image_is_refused():
    with pytest.raises(SettingError, match=r"budget \(=1000 bytes\) is below what one image needs \(=\d+ bytes\)"):
        largest_batch(group_net, (1, 12, 12), 1000)


def test_one_image_that_a_batch_norm_refuses():
    with pytest.raises(
        SettingError, match=r"on inputs of shape \(1, 1, 28, 28\): Expected more than 1 value.*; give --batch-size 2"
    ):
        predict(lambda: plain_stack(5), (1, 28, 28), 1)


def test_the_allocator_needs_a_cuda_device():
    with pytest.raises(SettingError, match=r"device \(=cpu\)"):
        allocator_peak(group_net(), (1, 12, 12), device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_allocator_never_reports_less_than_the_live_storages():
    model = plain_stack(20)
    measured = allocator_peak(model, (1, 28, 28))
    emulated = allocator_emulation(model, (1, 28, 28), device="cuda")
    assert measured.peak_bytes >= emulated.peak_bytes
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_saved_bytes_on_cuda_follow_their_units():
    from e4profile.witnesses.memory.closed_form import predict_saved

    for dtype in (torch.float32, torch.bfloat16):
        measured = saved_for_backward(group_net(), (1, 12, 12), batch_size=2, dtype=dtype, device="cuda")
        predicted = predict_saved(group_net(), (1, 12, 12), dtype=dtype, device="cuda")
        assert measured.saved_bytes == predicted.saved_bytes(2)


def test_linear_state_by_hand():
    state = training_state_of(nn.Linear(3, 2), "adam")
    assert (state.parameter_bytes, state.gradient_bytes, state.optimiser_bytes) == (32, 32, 64 + 8)
