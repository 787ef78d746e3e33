"""Generator and aggregation in one operator: equal to the two apart, and nothing of the stencils is kept."""

from __future__ import annotations

import pytest
import torch

from e4profile.errors import SettingError
from e4profile.ops import generate_and_aggregate, generate_stencils, generated, shifted

NAMES = ("hidden", "weight", "bias", "values")


def make(B, A, s, c, c_mid, k, h, w, stride, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    h_out, w_out = (h - 1) // stride + 1, (w - 1) // stride + 1
    shapes = (B, A, c_mid, h_out, w_out), (A, s * k * k, c_mid), (A, s * k * k), (B, s, c, A, h, w)
    made = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return [tensor.to(dtype).requires_grad_() for tensor in made]


def assert_same(left, right, relative=1e-12):
    scale = max(1.0, right.abs().max().item()) if right.numel() else 1.0
    assert left.shape == right.shape
    assert not right.numel() or (left - right).abs().max().item() <= relative * scale


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(0, 2, 2, 2, 3), (1, 1, 1, 1, 1), (3, 4, 2, 3, 5), (5, 2, 3, 1, 2)])
def test_equal_to_the_reference(k, stride, sizes, monkeypatch):
    inputs = make(*sizes, k, 7, 6, stride)
    slow = generate_and_aggregate(*inputs, k, stride, "reference")
    upstream = torch.randn(slow.shape, dtype=slow.dtype, generator=torch.Generator().manual_seed(1))
    slow_gradients = torch.autograd.grad(slow, inputs, upstream)
    for budget in (1, 30_000, 1 << 21):
        monkeypatch.setattr(shifted, "CPU_BLOCK_BYTES", budget)
        fast = generate_and_aggregate(*inputs, k, stride, "cpu")
        assert fast.is_contiguous()
        assert_same(fast.detach(), slow.detach())
        for left, right in zip(torch.autograd.grad(fast, inputs, upstream), slow_gradients, strict=True):
            assert_same(left, right)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 2)])
def test_each_gradient_alone(wanted):
    inputs = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(make(3, 2, 2, 2, 3, 3, 5, 4, 1))]
    leaves = [inputs[i] for i in wanted]
    fast, slow = (generate_and_aggregate(*inputs, 3, 1, name).pow(2).sum() for name in ("cpu", "reference"))
    for left, right in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        assert_same(left, right)


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_gradcheck_twice(k, stride):
    inputs = make(2, 2, 1, 2, 2, k, 4, 3, stride)

    def function(*tensors):
        return generate_and_aggregate(*tensors, k, stride)

    assert torch.autograd.gradcheck(function, inputs)
    # by random projections: a wrong entry is a wrong projection
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-5)])
def test_halves(dtype, tolerance):
    inputs = make(2, 2, 2, 2, 8, 3, 6, 6, 1, dtype)
    exact = generate_and_aggregate(*(t.detach().double() for t in inputs), 3, 1, "reference")
    out = generate_and_aggregate(*inputs, 3)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)
    assert {gradient.dtype for gradient in torch.autograd.grad(out.sum(), inputs)} == {dtype}


def test_strange_layouts_of_memory():
    inputs = make(3, 4, 2, 2, 3, 3, 6, 5, 1)
    expected = generate_and_aggregate(*inputs, 3, 1, "reference")
    strange = [t.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for t in inputs]
    assert not any(t.is_contiguous() for t in strange)
    out = generate_and_aggregate(*strange, 3)
    assert_same(out.detach(), expected.detach())
    left, right = (torch.autograd.grad(o.pow(2).sum(), i) for o, i in ((out, strange), (expected, inputs)))
    for fast, slow in zip(left, right, strict=True):
        assert_same(fast, slow)


def test_saves_its_inputs_and_nothing_else():
    inputs = make(4, 4, 2, 2, 3, 5, 6, 6, 1)
    kept: list[int] = []

    def pack(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        generate_and_aggregate(*inputs, 5)
    assert kept == [tensor.data_ptr() for tensor in inputs]


def test_stencils_of_the_whole_batch_are_never_made(monkeypatch):
    inputs = make(16, 4, 2, 2, 3, 3, 6, 6, 1)
    whole = generate_stencils(*inputs[:3], 3).numel()
    monkeypatch.setattr(shifted, "CPU_BLOCK_BYTES", 100_000)
    largest = []

    class Spy(shifted.Block):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            largest.append(self.stencils.numel())

    monkeypatch.setattr(shifted, "Block", Spy)
    out = generated.forward(*(t.detach() for t in inputs), 3, 1)
    assert out.shape == inputs[3].shape
    assert largest
    assert max(largest) * 4 < whole


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("hidden", (2, 2, 3, 4, 5), r"hidden \(2, 2, 3, 4, 5\) does not fit values .* expected \(2, 2, 3, 4, 4\)"),
        ("hidden", (2, 2, 3, 16), r"\(2, 2, 3, 16\)"),
        ("weight", (2, 9, 3), r"weight \(2, 9, 3\) does not fit .* kernel \(=3\).* expected \(2, 18, 3\)"),
        ("bias", (18,), r"bias \(18,\) does not fit .* expected \(2, 18\)"),
        ("values", (3, 2, 2, 2, 4, 4), r"values \(3, 2, 2, 2, 4, 4\)"),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_errors_name_the_values(name, shape, message, implementation):
    inputs = dict(zip(NAMES, (t.detach() for t in make(2, 2, 2, 2, 3, 3, 4, 4, 1)), strict=True))
    inputs[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(SettingError, match=message):
        generate_and_aggregate(**inputs, kernel=3, implementation=implementation)
