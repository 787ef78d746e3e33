# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: PLR0917
"""The aggregation and its gradients as two Triton kernels: each element is written once, by one program.

A program owns a run of places of one (sample, slice, group element). Forward also divides the channels among
programs; backward does not, and computes both gradients of its run: of the values by gathering from the outputs
that read them, of the stencils by summing over the channels. Nothing is added to what another program wrote,
hence no atomics. From memory, forward reads stencils and values and writes the output; backward reads stencils,
values and the output's gradient and writes two gradients, each once: what the taps and the programs of a plane
read again comes from the caches. Every sum is in float32, or in float64 for float64.
"""

# No `from __future__ import annotations` here: Triton 3.0 knows a constexpr by the annotation itself.

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

from e4profile.ops.triton_tiles import load_tap, load_tile, owner, places_of, read_by, reader_of, store_tile, tap_of

# Triton decides when a kernel is defined whether it is compiled or interpreted.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MAX_CHANNELS = 16
POSITIONS_TIMES_CHANNELS = 1024


# In both kernels the steps of a tensor are its strides along batch, group element, slice, then tap or channel, then
# place. Their letters: k stencils, v values, g output and its gradient, d gradient of the stencils, e of the
# values.


@triton.jit
def _forward(
    stencils, values, out,
    s, c, A, h, w, h_out, w_out, runs,
    kb, ka, ks, kt, kp,
    vb, va, vs, vc, vp,
    gb, ga, gs, gc, gp,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):  # fmt: skip
    sample, piece, element, run, part = owner(s, A, PARTS, runs)
    place, y, x, inside = places_of(run, w_out, h_out * w_out, POSITIONS)
    stencils += sample * kb + element * ka + piece * ks
    values += sample * vb + element * va + piece * vs
    out += sample * gb + element * ga + piece * gs
    total = tl.zeros((CHANNELS, POSITIONS), dtype=ACCUMULATOR)
    for dy in range(KERNEL):
        for dx in tl.static_range(KERNEL):
            read, there = read_by(y, x, dy, dx, h, w, KERNEL, STRIDE)
            weight = load_tap(stencils, dy * KERNEL + dx, kt, place, kp, inside, ACCUMULATOR)
            value = load_tile(values, part, vc, c, read, vp, inside & there, CHANNELS, ACCUMULATOR)
            total += weight[None, :] * value
    store_tile(out, part, gc, c, place, gp, inside, total, CHANNELS)


@triton.jit
def _backward(
    stencils, values, grad, stencil_grad, value_grad,
    s, c, A, h, w, h_out, w_out, runs,
    kb, ka, ks, kt, kp,
    vb, va, vs, vc, vp,
    gb, ga, gs, gc, gp,
    db, da, ds, dt, dp,
    eb, ea, es, ec, ep,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    OUT_POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    OF_STENCILS: tl.constexpr,
    OF_VALUES: tl.constexpr,
):  # fmt: skip
    sample, piece, element, run, _ = owner(s, A, 1, runs)
    grad += sample * gb + element * ga + piece * gs
    if OF_STENCILS:
        place, y, x, inside = places_of(run, w_out, h_out * w_out, OUT_POSITIONS)
        values += sample * vb + element * va + piece * vs
        stencil_grad += sample * db + element * da + piece * ds
        # A slice seldom has more channels than this first part: its gradient stays in the registers.
        own = load_tile(grad, 0, gc, c, place, gp, inside, CHANNELS, ACCUMULATOR)
        for dy in range(KERNEL):
            for dx in tl.static_range(KERNEL):
                read, there = read_by(y, x, dy, dx, h, w, KERNEL, STRIDE)
                there = there & inside
                value = load_tile(values, 0, vc, c, read, vp, there, CHANNELS, ACCUMULATOR)
                total = tl.sum(own * value, axis=0)
                for part in range(1, PARTS):
                    further = load_tile(grad, part, gc, c, place, gp, inside, CHANNELS, ACCUMULATOR)
                    value = load_tile(values, part, vc, c, read, vp, there, CHANNELS, ACCUMULATOR)
                    total += tl.sum(further * value, axis=0)
                total = total.to(stencil_grad.dtype.element_ty)
                tl.store(tap_of(stencil_grad, dy * KERNEL + dx, dt, place, dp), total, mask=inside)
    if OF_VALUES:
        place, row, column, inside = places_of(run, w, h * w, POSITIONS)
        stencils += sample * kb + element * ka + piece * ks
        value_grad += sample * eb + element * ea + piece * es
        for part in range(PARTS):
            total = tl.zeros((CHANNELS, POSITIONS), dtype=ACCUMULATOR)
            for dy in range(KERNEL):
                for dx in tl.static_range(KERNEL):
                    reader, there = reader_of(row, column, dy, dx, h_out, w_out, KERNEL, STRIDE)
                    there = there & inside
                    weight = load_tap(stencils, dy * KERNEL + dx, kt, reader, kp, there, ACCUMULATOR)
                    upstream = load_tile(grad, part, gc, c, reader, gp, there, CHANNELS, ACCUMULATOR)
                    total += weight[None, :] * upstream
            store_tile(value_grad, part, ec, c, place, ep, inside, total, CHANNELS)


def _place_step(tensor: torch.Tensor) -> int | None:
    """The one distance between neighbouring places y·width + x of a plane, or None where there is no such."""
    (h, w), (down, across) = tensor.shape[-2:], tensor.stride()[-2:]
    if w == 1:
        return down
    return across if h == 1 or down == w * across else None


def _plane_wise(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy of it where its planes have no one step between places."""
    return tensor.contiguous() if _place_step(tensor) is None else tensor


def _steps(tensor: torch.Tensor, order: tuple[int, int, int, int]) -> list[int]:
    step = _place_step(tensor)
    assert step is not None
    return [*(tensor.stride(axis) for axis in order), step]


def _stencil_steps(stencils: torch.Tensor) -> list[int]:
    """Of (B, A, s, k·k, h_out, w_out)."""
    return _steps(stencils, (0, 1, 2, 3))


def _field_steps(field: torch.Tensor) -> list[int]:
    """Of (B, s, c, A, h, w)."""
    return _steps(field, (0, 3, 1, 2))


def _channels(c: int) -> tuple[int, int]:
    """How many channels of a slice a program takes at once, and how many such parts there are."""
    channels = min(MAX_CHANNELS, triton.next_power_of_2(c))
    return channels, triton.cdiv(c, channels)


def _positions(places: int, channels: int) -> int:
    wanted: int = triton.next_power_of_2(places)
    return min(POSITIONS_TIMES_CHANNELS // channels, max(16, wanted))


def _accumulator(dtype: torch.dtype):
    return tl.float64 if dtype == torch.float64 else tl.float32


def _on(tensor: torch.Tensor) -> AbstractContextManager[object]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def forward(
    stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out), into `out` if given."""
    if out is None:
        out = values.new_empty((*values.shape[:4], *stencils.shape[4:]))
    if out.numel() == 0:
        return out
    stencils, values = _plane_wise(stencils), _plane_wise(values)
    (B, s, c, A, h, w), (h_out, w_out) = values.shape, out.shape[4:]
    channels, parts = _channels(c)
    positions = _positions(h_out * w_out, channels)
    runs = triton.cdiv(h_out * w_out, positions)
    with _on(out):
        _forward[(B * s * A * runs * parts,)](
            *(stencils, values, out),
            *(s, c, A, h, w, h_out, w_out, runs),
            *_stencil_steps(stencils),
            *_field_steps(values),
            *_field_steps(out),
            KERNEL=kernel,
            STRIDE=stride,
            POSITIONS=positions,
            CHANNELS=channels,
            PARTS=parts,
            ACCUMULATOR=_accumulator(values.dtype),
            enable_fp_fusion=True,
        )
    return out


def backward(
    grad: torch.Tensor,
    stencils: torch.Tensor | None,
    values: torch.Tensor | None,
    size: Sequence[int],
    kernel: int,
    stride: int,
    into: tuple[Any, Any] = (None, None),
) -> tuple[Any, Any]:
    """The gradient of the stencils where values are given, and that of the values where stencils are.

    One launch reads each tensor once from memory. Shapes: grad (B, s, c, A, h_out, w_out), stencils
    (B, A, s, k·k, h_out, w_out), values (B, s, c, A, *size). Where ``into`` holds a gradient that is asked for, it is
    written there; it may not be the stencils or the values.
    """
    B, s, c, A, h_out, w_out = grad.shape
    of_stencils, of_values = values is not None, stencils is not None
    new, (stencil_grad, value_grad) = grad.new_empty if grad.numel() else grad.new_zeros, into
    if of_stencils and stencil_grad is None:
        stencil_grad = new((B, A, s, kernel * kernel, h_out, w_out))
    if of_values and value_grad is None:
        value_grad = new((B, s, c, A, *size))
    found = stencil_grad, value_grad
    if grad.numel() == 0:
        return found
    grad = _plane_wise(grad)
    # A tensor that takes no part is stood in for by one that does.
    stencils = stencil_grad if stencils is None else _plane_wise(stencils)
    values = value_grad if values is None else _plane_wise(values)
    assert stencils is not None
    assert values is not None
    stencil_grad = stencil_grad if of_stencils else stencils
    value_grad = value_grad if of_values else values
    h, w = size
    channels, parts = _channels(c)
    positions, out_positions = _positions(h * w, channels), _positions(h_out * w_out, channels)
    if of_stencils and of_values:
        # The same part of the plane for both, so that they share what they read.
        out_positions = max(16, positions // triton.next_power_of_2(stride) ** 2)
    runs = max(
        triton.cdiv(h_out * w_out, out_positions) if of_stencils else 0,
        triton.cdiv(h * w, positions) if of_values else 0,
    )
    with _on(grad):
        _backward[(B * s * A * runs,)](
            *(stencils, values, grad, stencil_grad, value_grad),
            *(s, c, A, h, w, h_out, w_out, runs),
            *_stencil_steps(stencils),
            *_field_steps(values),
            *_field_steps(grad),
            *_stencil_steps(stencil_grad),
            *_field_steps(value_grad),
            KERNEL=kernel,
            STRIDE=stride,
            POSITIONS=positions,
            OUT_POSITIONS=out_positions,
            CHANNELS=channels,
            PARTS=parts,
            ACCUMULATOR=_accumulator(grad.dtype),
            OF_STENCILS=of_stencils,
            OF_VALUES=of_values,
            enable_fp_fusion=True,
        )
    return found
