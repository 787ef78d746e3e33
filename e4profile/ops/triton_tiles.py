# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: PLR0917
"""What one Triton program of the aggregation owns, what its taps read, and how it reads and writes it.

A place is y·width + x in its plane. Every function runs inside a kernel.
"""

# No `from __future__ import annotations` here: Triton 3.0 knows a constexpr by the annotation itself.

import triton
import triton.language as tl


@triton.jit
def owner(s, A, parts, runs):
    """What a program owns: sample, slice, group element, run of places, part of the channels.

    Programs of one plane follow one another, so that what they share is in the cache.
    """
    index = tl.program_id(0).to(tl.int64)
    part = index % parts
    index = index // parts
    run = index % runs
    index = index // runs
    element = index % A
    index = index // A
    return index // s, index % s, element, run, part


@triton.jit
def places_of(run, width, size, POSITIONS: tl.constexpr):
    """The places of a run, their rows and columns, and which of them are inside the plane of `size` places."""
    place = run * POSITIONS + tl.arange(0, POSITIONS)
    return place, place // width, place % width, place < size


@triton.jit
def read_by(y, x, dy, dx, h, w, KERNEL: tl.constexpr, STRIDE: tl.constexpr):
    """The place of the values that the tap (dy, dx) of output (y, x) reads, and whether it is in the plane."""
    row = y * STRIDE + dy - (KERNEL - 1) // 2
    column = x * STRIDE + dx - (KERNEL - 1) // 2
    return row * w + column, (row >= 0) & (row < h) & (column >= 0) & (column < w)


@triton.jit
def reader_of(row, column, dy, dx, h_out, w_out, KERNEL: tl.constexpr, STRIDE: tl.constexpr):
    """The place of the output whose tap (dy, dx) reads the values at (row, column), and whether there is one."""
    down = row + (KERNEL - 1) // 2 - dy
    across = column + (KERNEL - 1) // 2 - dx
    y, x = down // STRIDE, across // STRIDE
    there = (down >= 0) & (across >= 0) & (y < h_out) & (x < w_out)
    return y * w_out + x, there & (y * STRIDE == down) & (x * STRIDE == across)


@triton.jit
def tap_of(at, tap, tap_step, place, step):
    """Pointers to one tap of the stencils at these places: (places). Offsets are 64 bits wide."""
    return at + tl.cast(tap, tl.int64) * tap_step + place * step


@triton.jit
def load_tap(at, tap, tap_step, place, step, there, ACCUMULATOR: tl.constexpr):
    """One tap of the stencils at these places, zero where there is none: (places)."""
    return tl.load(tap_of(at, tap, tap_step, place, step), mask=there, other=0.0).to(ACCUMULATOR)


@triton.jit
def tile_of(at, part, channel_step, c, place, step, there, CHANNELS: tl.constexpr):
    """Pointers to a part of a slice's channels at these places and their mask: twice (channels, places)."""
    channel = part * CHANNELS + tl.arange(0, CHANNELS).to(tl.int64)
    pointers = at + channel[:, None] * channel_step + (place * step)[None, :]
    return pointers, (channel < c)[:, None] & there[None, :]


@triton.jit
def load_tile(
    at, part, channel_step, c, place, step, there, CHANNELS: tl.constexpr, ACCUMULATOR: tl.constexpr
):  # fmt: skip
    """A part of a slice's channels at these places, zero outside: (channels, places)."""
    pointers, mine = tile_of(at, part, channel_step, c, place, step, there, CHANNELS)
    return tl.load(pointers, mask=mine, other=0.0).to(ACCUMULATOR)


@triton.jit
def store_tile(at, part, channel_step, c, place, step, there, tile, CHANNELS: tl.constexpr):
    """Write a part of a slice's channels, rounded to the tensor's dtype."""
    pointers, mine = tile_of(at, part, channel_step, c, place, step, there, CHANNELS)
    tl.store(pointers, tile.to(at.dtype.element_ty), mask=mine)
