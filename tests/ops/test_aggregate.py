"""The operator against the reference: values, gradients, second derivatives, dtypes, layouts, odd sizes."""

from __future__ import annotations

import pytest
import torch

from e4profile.errors import SettingError, UnknownNameError
from e4profile.ops import aggregate


def make(B, A, s, c, k, h, w, stride, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h_out, w_out = (h - 1) // stride + 1, (w - 1) // stride + 1
    stencils = torch.randn(B, A, s, k * k, h_out, w_out, dtype=torch.float64, generator=generator)
    values = torch.randn(B, s, c, A, h, w, dtype=torch.float64, generator=generator)
    return stencils.to(dtype).requires_grad_(), values.to(dtype).requires_grad_()


def by_hand(stencils, values, k, stride):
    """Five nested loops: the definition, sharing nothing with either implementation."""
    B, A, s, _, h_out, w_out = stencils.shape
    c, h, w = values.shape[2], values.shape[4], values.shape[5]
    out = torch.zeros(B, s, c, A, h_out, w_out, dtype=values.dtype)
    for y in range(h_out):
        for x in range(w_out):
            for dy in range(k):
                for dx in range(k):
                    row, column = y * stride + dy - (k - 1) // 2, x * stride + dx - (k - 1) // 2
                    if 0 <= row < h and 0 <= column < w:
                        weight = stencils[:, :, :, dy * k + dx, y, x].permute(0, 2, 1)[:, :, None]
                        out[..., y, x] += weight * values[..., row, column]
    return out


def assert_same(left, right, relative=1e-12):
    scale = max(1.0, right.abs().max().item()) if right.numel() else 1.0
    assert left.shape == right.shape
    assert (left - right).abs().max().item() <= relative * scale if right.numel() else True


@pytest.mark.parametrize("stride", [1, 2, 3, 9])
@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 3)])
def test_definition(k, stride, size):
    stencils, values = make(2, 3, 2, 2, k, *size, stride)
    expected = by_hand(stencils.detach(), values.detach(), k, stride)
    for implementation in ("reference", "cpu"):
        assert_same(aggregate(stencils, values, k, stride, implementation).detach(), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(0, 2, 2, 2), (1, 1, 1, 1), (3, 4, 2, 3), (5, 2, 3, 1)])
def test_gradients_are_the_reference_ones(k, stride, sizes):
    stencils, values = make(*sizes, k, 7, 6, stride)
    fast, slow = (aggregate(stencils, values, k, stride, name) for name in ("cpu", "reference"))
    upstream = torch.randn(fast.shape, dtype=fast.dtype, generator=torch.Generator().manual_seed(1))
    assert_same(fast.detach(), slow.detach())
    fast_gradients = torch.autograd.grad(fast, (stencils, values), upstream)
    slow_gradients = torch.autograd.grad(slow, (stencils, values), upstream)
    for left, right in zip(fast_gradients, slow_gradients, strict=True):
        assert_same(left, right)


def test_many_blocks(monkeypatch):
    from e4profile.ops import shifted

    stencils, values = make(5, 4, 2, 2, 3, 6, 5, 1)
    whole = aggregate(stencils, values, 3)
    whole_gradients = torch.autograd.grad(whole.square().sum(), (stencils, values))
    for budget in (1, 9_000, 40_000):
        monkeypatch.setattr(shifted, "CPU_BLOCK_BYTES", budget)
        cut = aggregate(stencils, values, 3)
        assert torch.equal(cut, whole)
        gradients = torch.autograd.grad(cut.square().sum(), (stencils, values))
        assert all(torch.equal(left, right) for left, right in zip(gradients, whole_gradients, strict=True))


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 1), (3, 2), (5, 3)])
def test_gradcheck_twice(k, stride):
    stencils, values = make(2, 2, 1, 2, k, 4, 3, stride)

    def function(stencils, values):
        return aggregate(stencils, values, k, stride)

    assert torch.autograd.gradcheck(function, (stencils, values))
    # by random projections: a wrong entry is a wrong projection
    assert torch.autograd.gradgradcheck(function, (stencils, values), fast_mode=True)
    assert torch.autograd.gradcheck(lambda v: function(stencils.detach(), v), (values,))
    assert torch.autograd.gradcheck(lambda s: function(s, values.detach()), (stencils,))


def test_second_derivative_is_the_reference_one():
    stencils, values = make(2, 2, 2, 2, 3, 5, 4, 2)

    def penalty(implementation):
        out = aggregate(stencils, values, 3, 2, implementation)
        first = torch.autograd.grad(out.pow(3).sum(), (stencils, values), create_graph=True)
        return torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), (stencils, values))

    for left, right in zip(penalty("cpu"), penalty("reference"), strict=True):
        assert_same(left, right)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1.6e-2), (torch.float32, 1e-5)]
)
def test_halves_are_summed_in_float32(dtype, tolerance):
    stencils, values = make(2, 2, 2, 2, 5, 6, 6, 1, dtype)
    exact = aggregate(stencils.double(), values.double(), 5, 1, "reference")
    for implementation in ("cpu", "reference"):
        out = aggregate(stencils, values, 5, 1, implementation)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)
        gradients = torch.autograd.grad(out.sum(), (stencils, values))
        assert [gradient.dtype for gradient in gradients] == [dtype, dtype]


def test_float16_does_not_lose_small_terms():
    k = 65
    stencils = torch.ones(1, 1, 1, k * k, 65, 65, dtype=torch.float16)
    values = torch.ones(1, 1, 1, 1, 65, 65, dtype=torch.float16)
    assert aggregate(stencils, values, k)[0, 0, 0, 0, 32, 32].item() == 4224.0  # 65² = 4225 to float16's 11 bits


def test_layouts_of_memory():
    stencils, values = make(3, 4, 2, 2, 3, 6, 5, 1)
    expected = aggregate(stencils, values, 3, 1, "reference")
    for order in ([5, 4, 3, 2, 1, 0], [0, 2, 3, 4, 5, 1]):
        back = [order.index(axis) for axis in range(6)]
        strange = [t.detach().permute(order).contiguous().permute(back).requires_grad_() for t in (stencils, values)]
        assert not strange[1].is_contiguous()
        out = aggregate(*strange, 3)
        assert out.is_contiguous()
        assert_same(out.detach(), expected.detach())
        upstream = expected.detach().permute(order).contiguous().permute(back)
        gradients = torch.autograd.grad(out, strange, upstream)
        for left, right in zip(
            gradients, torch.autograd.grad(expected, (stencils, values), upstream, retain_graph=True), strict=True
        ):
            assert_same(left, right)
    field = values.detach().reshape(3, 16, 6, 5).to(memory_format=torch.channels_last)
    out = aggregate(stencils, field.view(3, 2, 2, 4, 6, 5), 3)
    assert_same(out.detach(), expected.detach())
    assert_same(
        aggregate(stencils, values[:1].expand(3, -1, -1, -1, -1, -1), 3).detach(),
        aggregate(stencils, values[:1].repeat(3, 1, 1, 1, 1, 1), 3, 1, "reference").detach(),
    )


def test_only_what_is_needed_is_saved():
    stencils, values = make(2, 2, 2, 2, 3, 4, 4, 1)
    for wanted, saved in (((True, True), [1, 1]), ((True, False), [0, 1]), ((False, True), [1, 0])):
        kept: list[int] = []

        def pack(tensor, kept=kept):
            kept.append(tensor.data_ptr())
            return tensor

        inputs = [t.detach().requires_grad_(need) for t, need in zip((stencils, values), wanted, strict=True)]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            aggregate(*inputs, 3)
        assert sorted(kept) == sorted(t.data_ptr() for t, need in zip(inputs, saved, strict=True) if need)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kernel=4), r"kernel \(=4\) must be odd"),
        (dict(kernel=-1), r"kernel \(=-1\)"),
        (dict(stride=0), r"stride \(=0\)"),
        (dict(kernel=5), r"\(2, 2, 2, 9, 4, 4\) do not fit values \(2, 2, 2, 2, 4, 4\).*kernel \(=5\)"),
        (dict(stride=2), r"stride \(=2\): expected \(2, 2, 2, 9, 2, 2\)"),
        (dict(values=torch.zeros(2, 2, 2, 2, 4)), r"\(2, 2, 2, 2, 4\)"),
        (dict(values=torch.zeros(2, 2, 2, 3, 4, 4)), r"\(2, 2, 2, 3, 4, 4\)"),
        (dict(values=torch.zeros(2, 2, 2, 2, 4, 4).double()), "torch.float32, torch.float64"),
        (dict(values=torch.zeros(2, 2, 2, 2, 4, 4).long()), "torch.float32, torch.int64"),
        (dict(values=torch.zeros(2, 2, 2, 2, 4, 4, device="meta")), "cpu, meta"),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "reference"])
def test_errors_name_the_values(change, message, implementation):
    arguments = dict(stencils=torch.zeros(2, 2, 2, 9, 4, 4), values=torch.zeros(2, 2, 2, 2, 4, 4), kernel=3, stride=1)
    with pytest.raises(SettingError, match=message):
        aggregate(**{**arguments, **change}, implementation=implementation)


def test_unknown_implementation():
    with pytest.raises(UnknownNameError, match="did you mean triton"):
        aggregate(torch.zeros(1, 1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1, 1), 1, implementation="tritn")
