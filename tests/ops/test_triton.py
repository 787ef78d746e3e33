"""The Triton kernels against the reference: on a GPU, or with TRITON_INTERPRET=1 in Triton's interpreter.

Where neither is so, ``test_triton_programs`` runs this file in a process whose Triton interprets.
"""

from __future__ import annotations

import os

import pytest
import torch

from e4profile.ops import aggregate, generate_and_aggregate, triton_reason

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
if reason := triton_reason(torch.empty(0, device=DEVICE)):
    pytest.skip(f"not in this process: {reason}", allow_module_level=True)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def random(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return [tensor.to(DEVICE, dtype).requires_grad_() for tensor in made]


def compare(call, inputs, dtype):
    """Output and gradients against the reference in float64, relative to the largest element."""
    exact_inputs = [t.detach().double().requires_grad_() for t in inputs]
    out, exact = call("triton", *inputs), call("reference", *exact_inputs)
    assert (out.dtype, out.shape, out.is_contiguous()) == (dtype, exact.shape, True)
    upstream = torch.randn(exact.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    upstream = upstream.to(DEVICE, dtype)
    pairs = [(out, exact)]
    pairs += zip(
        torch.autograd.grad(out, inputs, upstream),
        torch.autograd.grad(exact, exact_inputs, upstream.double()),
        strict=True,
    )
    for left, right in pairs:
        assert left.shape == right.shape
        if right.numel():
            scale = max(1.0, right.abs().max().item())
            assert (left.double() - right).abs().max().item() <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize(
    ("k", "stride", "sizes"),
    [
        *((k, stride, (1, 3, 2, 3)) for k in (1, 3) for stride in (1, 2, 3)),
        # the interpreter takes as long for each of these as for ten others
        *((5, stride, (1, 3, 2, 3)) for stride in ((2,) if INTERPRETED else (1, 2, 3))),
        *((k, stride, sizes) for k, stride in ((1, 2), (3, 1)) for sizes in ((0, 2, 2, 2), (1, 1, 1, 1))),
    ],
)
def test_aggregate(k, stride, sizes):
    (B, A, s, c), (h, w) = sizes, (5, 4)
    h_out, w_out = (h - 1) // stride + 1, (w - 1) // stride + 1
    inputs = random((B, A, s, k * k, h_out, w_out), (B, s, c, A, h, w))
    compare(lambda name, *t: aggregate(*t, k, stride, name), inputs, torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype):
    inputs = random((2, 2, 1, 9, 4, 3), (2, 1, 3, 2, 4, 3), dtype=dtype)
    compare(lambda name, *t: aggregate(*t, 3, 1, name), inputs, dtype)


def test_more_channels_and_positions_than_one_program_owns():
    inputs = random((1, 1, 1, 9, 33, 9), (1, 1, 21, 1, 33, 9))
    compare(lambda name, *t: aggregate(*t, 3, 1, name), inputs, torch.float64)


def test_any_strides():
    inputs = random((2, 2, 2, 9, 3, 2), (2, 2, 2, 2, 3, 2))
    strange = [t.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for t in inputs]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), strange, torch.float64)


@pytest.mark.parametrize(
    ("B", "stride", "stencil_bytes"),
    # blocks of one image without a stride, and all images at once with one
    [(0, 1, 1), (0, 1, 1 << 27), (2, 1, 1), (2, 2, 1 << 27), *([] if INTERPRETED else [(2, 2, 1), (2, 1, 1 << 27)])],
)
def test_generate_and_aggregate(B, stride, stencil_bytes, monkeypatch):
    from e4profile.ops import generated_triton

    monkeypatch.setattr(generated_triton, "STENCIL_BYTES", stencil_bytes)
    size = (4 - 1) // stride + 1
    inputs = random((B, 2, 3, size, size), (2, 18, 3), (2, 18), (B, 2, 3, 2, 4, 4))
    compare(lambda name, *t: generate_and_aggregate(*t, 3, stride, name), inputs, torch.float64)


def test_second_derivative():
    inputs = random((1, 2, 1, 9, 3, 2), (1, 1, 2, 2, 3, 2))

    def penalty(implementation):
        out = aggregate(*inputs, 3, 1, implementation)
        first = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), inputs)

    for left, right in zip(penalty("triton"), penalty("reference"), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_auto_on_cuda_is_equal_to_the_plain_path():
    inputs = [t.cuda() for t in random((2, 4, 2, 25, 9, 8), (2, 2, 8, 4, 9, 8), dtype=torch.float32)]
    torch.testing.assert_close(aggregate(*inputs, 5), aggregate(*inputs, 5, 1, "cpu"), rtol=1e-5, atol=1e-5)


def test_planes_without_one_step_between_places():
    stencils, values = random((1, 2, 1, 9, 5, 4), (1, 1, 2, 2, 8, 9))
    cropped = [stencils, values.detach()[..., 1:6, 2:6].requires_grad_()]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), cropped, torch.float64)
    column = [t.detach()[..., :1].expand(t.shape).requires_grad_() for t in (stencils, cropped[1])]
    compare(lambda name, *t: aggregate(*t, 3, 1, name), column, torch.float64)


@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
def test_gradients_take_one_launch(wanted, monkeypatch):
    from e4profile.ops import triton_kernels

    launched = []
    launch = triton_kernels.backward
    monkeypatch.setattr(triton_kernels, "backward", lambda *a: launched.append(launch(*a)) or launched[-1])
    inputs = random((1, 2, 2, 9, 5, 4), (1, 2, 2, 2, 5, 4))
    leaves = [inputs[i] for i in wanted]
    inputs = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    before = [t.detach().clone() for t in inputs]
    fast, slow = (aggregate(*inputs, 3, 1, name).pow(2).sum() for name in ("triton", "reference"))
    for left, right in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())
    assert all(torch.equal(t, old) for t, old in zip(inputs, before, strict=True))
    assert [[output is not None for output in outputs] for outputs in launched] == [[i in wanted for i in range(2)]]


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 3), (1, 2)])
def test_each_gradient_of_generate_and_aggregate_alone(wanted):
    inputs = random((1, 2, 3, 3, 2), (2, 18, 3), (2, 18), (1, 2, 2, 2, 3, 2))
    leaves = [inputs[i] for i in wanted]
    inputs = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    fast, slow = (generate_and_aggregate(*inputs, 3, 1, n).pow(2).sum() for n in ("triton", "reference"))
    for left, right in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12 * right.abs().max().item())


class Traffic:
    """How often the interpreted programs read and write each element of some tensors, by program."""

    def __init__(self, monkeypatch, **tensors):
        from triton.runtime.interpreter import interpreter_builder as builder

        self.tensors = tensors
        self.reads = {name: {} for name in tensors}
        self.writes = {name: {} for name in tensors}
        for method, counted in (("create_masked_load", self.reads), ("create_masked_store", self.writes)):
            monkeypatch.setattr(builder, method, self._watch(builder, getattr(builder, method), counted))

    def _watch(self, builder, original, counted):
        def watched(pointers, *arguments):
            mask = arguments[1] if counted is self.writes else arguments[0]
            for address in pointers.data[mask.data.astype(bool)].ravel().tolist():
                for name, tensor in self.tensors.items():
                    offset = address - tensor.data_ptr()
                    if 0 <= offset < tensor.numel() * tensor.element_size():
                        programs = counted[name].setdefault(offset // tensor.element_size(), {})
                        programs[builder.grid_idx] = programs.get(builder.grid_idx, 0) + 1
            return original(pointers, *arguments)

        return watched

    def written_once(self, name):
        places = self.writes[name]
        return len(places) == self.tensors[name].numel() and all(
            sum(programs.values()) == 1 for programs in places.values()
        )

    def elements_read(self, name):
        return len(self.reads[name])


@pytest.mark.skipif(not INTERPRETED, reason="watches Triton's interpreter")
@pytest.mark.parametrize("stride", [1, 2])
def test_bytes_of_the_floor(stride, monkeypatch):
    """Forward K + 2V, backward 2K + 3V with two channel parts and several runs: nothing is written twice."""
    from e4profile.ops import triton_kernels

    monkeypatch.setattr(triton_kernels, "MAX_CHANNELS", 2)
    monkeypatch.setattr(triton_kernels, "POSITIONS_TIMES_CHANNELS", 32)
    size = (5 - 1) // stride + 1
    stencils, values, grad = random((1, 2, 1, 9, size, size), (1, 1, 3, 2, 5, 5), (1, 1, 3, 2, size, size))
    inputs = {"stencils": stencils.detach(), "values": values.detach(), "grad": grad.detach()}
    outputs = {name: torch.empty_like(t) for name, t in inputs.items()}
    stencils, values, grad = inputs.values()

    with monkeypatch.context() as patch:
        traffic = Traffic(patch, stencils=stencils, values=values, out=outputs["grad"])
        triton_kernels.forward(stencils, values, 3, stride, out=outputs["grad"])
    assert traffic.written_once("out")
    assert not any((traffic.reads["out"], traffic.writes["stencils"], traffic.writes["values"]))
    assert [traffic.elements_read(n) for n in ("stencils", "values")] == [stencils.numel(), values.numel()]

    written = {"stencil_grad": outputs["stencils"], "value_grad": outputs["values"]}
    with monkeypatch.context() as patch:
        traffic = Traffic(patch, **inputs, **written)
        triton_kernels.backward(grad, stencils, values, (5, 5), 3, stride, tuple(written.values()))
    assert traffic.written_once("stencil_grad")
    assert traffic.written_once("value_grad")
    assert not any(traffic.reads[name] for name in written)
    assert not any(traffic.writes[name] for name in inputs)
    # no program reads the taps that reach into the padding
    inner = sum(
        0 <= y * stride + dy - 1 < 5 and 0 <= x * stride + dx - 1 < 5
        for y in range(size) for x in range(size) for dy in range(3) for dx in range(3)
    )  # fmt: skip
    assert traffic.elements_read("stencils") == 2 * inner
    assert all(len(programs) == 1 for programs in traffic.reads["stencils"].values())
    assert [traffic.elements_read(n) for n in ("grad", "values")] == [grad.numel(), values.numel()]
