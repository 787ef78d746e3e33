# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The aggregation and its gradients as Triton kernels: each output element is written once, by one program.

A program owns one (sample, slice, group element), a run of positions and some of the slice's channels. A
stencil is read once for all those channels and the values' overlaps come from the cache, so that memory
traffic is near stencils + values + output. Both gradients gather, hence need no atomics. The halves are
summed in float32. Tensors may have any strides; offsets are 64 bits wide.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl

# Triton decides when a kernel is defined whether it is compiled or interpreted.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MAX_CHANNELS = 16
POSITIONS_TIMES_CHANNELS = 1024


@triton.jit
def _owner(s, A, parts, runs):
    """What a program owns: sample, slice, group element, run of positions, part of the channels."""
    index = tl.program_id(0).to(tl.int64)
    part = index % parts
    index = index // parts
    run = index % runs
    index = index // runs
    element = index % A
    index = index // A
    return index // s, index % s, element, run, part


@triton.jit
def _forward(  # noqa: PLR0917
    stencils,
    values,
    out,
    s,
    c,
    A,
    h,
    w,
    h_out,
    w_out,
    parts,
    runs,
    kb,
    ka,
    ks,
    kt,
    ky,
    kx,
    vb,
    vs,
    vc,
    va,
    vy,
    vx,
    ob,
    os_,
    oc,
    oa,
    oy,
    ox,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    sample, piece, element, run, part = _owner(s, A, parts, runs)
    place = run * POSITIONS + tl.arange(0, POSITIONS)
    channel = part * CHANNELS + tl.arange(0, CHANNELS)
    y, x = place // w_out, place % w_out
    inside = place < h_out * w_out
    mine = (channel < c)[:, None] & inside[None, :]
    stencil_at = stencils + sample * kb + element * ka + piece * ks + y * ky + x * kx
    value_at = values + sample * vb + piece * vs + element * va + channel[:, None] * vc
    total = tl.zeros((CHANNELS, POSITIONS), dtype=ACCUMULATOR)
    for dy in range(KERNEL):
        row = y * STRIDE + dy - (KERNEL - 1) // 2
        for dx in tl.static_range(KERNEL):
            column = x * STRIDE + dx - (KERNEL - 1) // 2
            there = mine & ((row >= 0) & (row < h) & (column >= 0) & (column < w))[None, :]
            weight = tl.load(stencil_at + (dy * KERNEL + dx) * kt, mask=inside, other=0.0).to(ACCUMULATOR)
            value = tl.load(value_at + (row * vy + column * vx)[None, :], mask=there, other=0.0)
            total += weight[None, :] * value.to(ACCUMULATOR)
    out_at = (
        out + sample * ob + piece * os_ + element * oa + channel[:, None] * oc + (y * oy + x * ox)[None, :]
    )
    tl.store(out_at, total.to(out.dtype.element_ty), mask=mine)


@triton.jit
def _stencil_gradient(  # noqa: PLR0917
    stencils,
    values,
    out,
    s,
    c,
    A,
    h,
    w,
    h_out,
    w_out,
    parts,
    runs,
    kb,
    ka,
    ks,
    kt,
    ky,
    kx,
    vb,
    vs,
    vc,
    va,
    vy,
    vx,
    ob,
    os_,
    oc,
    oa,
    oy,
    ox,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    sample, piece, element, run, _ = _owner(s, A, 1, runs)
    place = run * POSITIONS + tl.arange(0, POSITIONS)
    y, x = place // w_out, place % w_out
    inside = place < h_out * w_out
    stencil_at = stencils + sample * kb + element * ka + piece * ks + y * ky + x * kx
    for dy in range(KERNEL):
        row = y * STRIDE + dy - (KERNEL - 1) // 2
        for dx in tl.static_range(KERNEL):
            column = x * STRIDE + dx - (KERNEL - 1) // 2
            there = inside & (row >= 0) & (row < h) & (column >= 0) & (column < w)
            total = tl.zeros((POSITIONS,), dtype=ACCUMULATOR)
            for part in range(parts):
                channel = part * CHANNELS + tl.arange(0, CHANNELS).to(tl.int64)
                mine = (channel < c)[:, None] & there[None, :]
                value_at = values + sample * vb + piece * vs + element * va + channel[:, None] * vc
                out_at = out + sample * ob + piece * os_ + element * oa + channel[:, None] * oc
                value = tl.load(value_at + (row * vy + column * vx)[None, :], mask=mine, other=0.0)
                grad = tl.load(out_at + (y * oy + x * ox)[None, :], mask=mine, other=0.0)
                total += tl.sum(grad.to(ACCUMULATOR) * value.to(ACCUMULATOR), axis=0)
            tap = (dy * KERNEL + dx) * kt
            tl.store(stencil_at + tap, total.to(stencils.dtype.element_ty), mask=inside)


@triton.jit
def _value_gradient(  # noqa: PLR0917
    stencils,
    values,
    out,
    s,
    c,
    A,
    h,
    w,
    h_out,
    w_out,
    parts,
    runs,
    kb,
    ka,
    ks,
    kt,
    ky,
    kx,
    vb,
    vs,
    vc,
    va,
    vy,
    vx,
    ob,
    os_,
    oc,
    oa,
    oy,
    ox,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    sample, piece, element, run, part = _owner(s, A, parts, runs)
    place = run * POSITIONS + tl.arange(0, POSITIONS)
    channel = part * CHANNELS + tl.arange(0, CHANNELS)
    row, column = place // w, place % w
    inside = place < h * w
    mine = (channel < c)[:, None] & inside[None, :]
    stencil_at = stencils + sample * kb + element * ka + piece * ks
    out_at = out + sample * ob + piece * os_ + element * oa + channel[:, None] * oc
    total = tl.zeros((CHANNELS, POSITIONS), dtype=ACCUMULATOR)
    for dy in range(KERNEL):
        # The output row, if there is one, whose tap dy reads this row: y·stride + dy − p = row.
        down = row + (KERNEL - 1) // 2 - dy
        y = down // STRIDE
        for dx in tl.static_range(KERNEL):
            across = column + (KERNEL - 1) // 2 - dx
            x = across // STRIDE
            there = inside & (down >= 0) & (across >= 0) & (y < h_out) & (x < w_out)
            there = there & (y * STRIDE == down) & (x * STRIDE == across)
            tap = (dy * KERNEL + dx) * kt
            weight = tl.load(stencil_at + tap + y * ky + x * kx, mask=there, other=0.0).to(ACCUMULATOR)
            grad = tl.load(out_at + (y * oy + x * ox)[None, :], mask=mine & there[None, :], other=0.0)
            total += weight[None, :] * grad.to(ACCUMULATOR)
    value_at = values + sample * vb + piece * vs + element * va + channel[:, None] * vc
    tl.store(value_at + (row * vy + column * vx)[None, :], total.to(values.dtype.element_ty), mask=mine)


def _launch(  # noqa: PLR0917
    which,
    stencils: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    kernel: int,
    stride: int,
) -> None:
    """Run a kernel on stencils (B, A, s, k², h_out, w_out), values (B, s, c, A, h, w) and out.

    One of the three is written: the stencils and the values by the kernel of their gradient.
    """
    B, s, c, A, h, w = values.shape
    h_out, w_out = out.shape[4:]
    channels = min(MAX_CHANNELS, triton.next_power_of_2(c))
    places = h * w if which is _value_gradient else h_out * w_out
    positions = min(POSITIONS_TIMES_CHANNELS // channels, max(16, triton.next_power_of_2(places)))
    parts, runs = triton.cdiv(c, channels), triton.cdiv(places, positions)
    programs = B * s * A * runs * (1 if which is _stencil_gradient else parts)
    device: AbstractContextManager[object] = torch.cuda.device(out.device) if out.is_cuda else nullcontext()
    with device:
        which[(programs,)](
            stencils,
            values,
            out,
            *(s, c, A, h, w, h_out, w_out, parts, runs),
            *stencils.stride(),
            *values.stride(),
            *out.stride(),
            KERNEL=kernel,
            STRIDE=stride,
            POSITIONS=positions,
            CHANNELS=channels,
            ACCUMULATOR=tl.float64 if values.dtype == torch.float64 else tl.float32,
            enable_fp_fusion=True,
        )


def forward(
    stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out), into `out` if given."""
    if out is None:
        out = values.new_empty((*values.shape[:4], *stencils.shape[4:]))
    if out.numel():
        _launch(_forward, stencils, values, out, kernel, stride)
    return out


def stencil_gradient(
    grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, s, c, A, h, w) -> (B, A, s, k·k, h_out, w_out), into `out` if given."""
    B, s, _, A, h_out, w_out = grad.shape
    if out is None:
        out = values.new_empty((B, A, s, kernel * kernel, h_out, w_out))
    if grad.numel() == 0:
        return out.zero_()
    _launch(_stencil_gradient, out, values, grad, kernel, stride)
    return out


def value_gradient(  # noqa: PLR0917
    grad: torch.Tensor,
    stencils: torch.Tensor,
    h: int,
    w: int,
    kernel: int,
    stride: int,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, s, c, A, h_out, w_out), (B, A, s, k·k, h_out, w_out) -> (B, s, c, A, h, w), into `out` if given."""
    if out is None:
        out = grad.new_empty((*grad.shape[:4], h, w))
    if grad.numel() == 0:
        return out.zero_()
    _launch(_value_gradient, stencils, out, grad, kernel, stride)
    return out
