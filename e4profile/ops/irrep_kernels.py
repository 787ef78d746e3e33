# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: PLR0917
"""The group convolution in the irrep basis as two Triton kernels: ``_convolve``, for it and for its input's gradient,
and ``_weigh``, for that of the filters.

A program gathers a tile of every element's map as it loads them, runs the butterflies in registers and multiplies
irrep by irrep, tap after tap; the bias and the butterflies back come before the only store. Neither gathered maps nor
coefficients reach memory. Every sum is in float32. Products of float32 are TF32 where PyTorch's convolutions may be.

The gradient of the input gathers as well, so that nothing is added to what another program wrote. The filter bank's
entry from b to a is w(a^-1 b) acted on by a, and with the offset t = a y

    out(x, a) = sum_b sum_t w(a^-1 b, a^-1 t) f(stride x + t, b)
    f'(p, b) = sum_y sum_a w~_y(b^-1 a) g((p - a y) / stride, a)    where w~_y(u) = w(u^-1, y)

which is a group convolution of the output's gradient. Pixels p that leave one remainder by the stride share the taps
that divide: a program owns pixels of one remainder, and passes over taps that divide for no element.
"""

# No `from __future__ import annotations` here: Triton 3.0 knows a constexpr by the annotation itself.

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from e4profile.ops.irrep_basis import Window
from e4profile.ops.irrep_tiles import coefficients, from_irreps, multiplied, store, weighed
from e4profile.ops.irreps import irrep_filters
from e4profile.ops.triton_kernels import INTERPRETED, _on

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LIMIT = 1 << 30
"""Elements of a tensor: offsets have 32 bits, and ``FAR`` must lead out of every map."""
FAR = -LIMIT

# What both compilers of sm_80 and sm_90 keep in registers for eight elements: (fields in, positions) by map, and
# (fields out, positions) or (fields out, fields in) by product.
POSITIONS, FIELDS_IN, FIELDS_OUT = 64, 16, 32
WEIGHED_POSITIONS, WEIGHED_IN, WEIGHED_OUT = 16, 64, 16
PROGRAMS = 512
"""Of ``_weigh``: runs of positions are shared out until there are as many, and their sums added."""

# A walk (int32) has a row by remainder: how many taps it visits, the remainders of row and column, and by tap its
# number and every element's steps down and across, from the position to the pixel it reads. Strides: m of the maps
# that are read, o of what is written, g of the output's gradient; along batch, field, element, row, column.


@triton.jit
def _convolve(
    maps, filters, bias, out, walk,
    images, c_in, c_out, taps, h, w, rows, columns, h_out, w_out, runs, parts, walk_step,
    mb, mc, ma, mh, mw,
    ob, oc, oa, oh, ow,
    BASIS: tl.constexpr,
    ORDER: tl.constexpr,
    STRIDE: tl.constexpr,
    SPREAD: tl.constexpr,
    BIASED: tl.constexpr,
    POSITIONS: tl.constexpr,
    FIELDS_IN: tl.constexpr,
    FIELDS_OUT: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0)
    written = (index % parts) * FIELDS_OUT + tl.arange(0, FIELDS_OUT)
    index = index // parts
    position = (index % runs) * POSITIONS + tl.arange(0, POSITIONS)
    walk += (index // runs) * walk_step
    y, x = position // columns % rows, position % columns
    image = position // (columns * rows)
    row, column = y * SPREAD + tl.load(walk + 1), x * SPREAD + tl.load(walk + 2)
    inside = (image < images) & (row < h_out) & (column < w_out)
    y, x = y * STRIDE, x * STRIDE
    maps += (image * mb + y * mh + x * mw)[None, :]
    each = taps * c_in * c_out
    chunks = tl.cdiv(c_in, FIELDS_IN)
    a0 = tl.zeros((FIELDS_OUT, POSITIONS), dtype=tl.float32)
    a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
    for step in range(tl.load(walk) * chunks):
        tap = walk + 3 + step // chunks * (1 + 2 * ORDER)
        field = step % chunks * FIELDS_IN + tl.arange(0, FIELDS_IN)
        at = maps + (field * mc)[:, None]
        known = (field < c_in)[:, None] & inside[None, :]
        v0, v1, v2, v3, v4, v5, v6, v7 = coefficients(at, tap + 1, y, x, known, h, w, ma, mh, mw, BASIS, ORDER, OPERAND)
        f = filters + (tl.load(tap) * c_out + written)[:, None] * c_in + field[None, :]
        k = (written < c_out)[:, None] & (field < c_in)[None, :]
        a0, a1, a2, a3, a4, a5, a6, a7 = multiplied(
            a0, a1, a2, a3, a4, a5, a6, a7, v0, v1, v2, v3, v4, v5, v6, v7, f, each, k, BASIS, PRECISION
        )
    if BIASED:
        # what every element has the same of is the trivial irrep's
        a0 += tl.load(bias + written, mask=written < c_out, other=0.0).to(tl.float32)[:, None]
    a0, a1, a2, a3, a4, a5, a6, a7 = from_irreps(a0, a1, a2, a3, a4, a5, a6, a7, BASIS)
    out += (written * oc)[:, None] + (image * ob + row * oh + column * ow)[None, :]
    mask = (written < c_out)[:, None] & inside[None, :]
    store(out, 0, oa, a0, mask)
    if ORDER > 1:
        store(out, 1, oa, a1, mask)
    if ORDER > 2:
        store(out, 2, oa, a2, mask)
        store(out, 3, oa, a3, mask)
    if ORDER > 4:
        store(out, 4, oa, a4, mask)
        store(out, 5, oa, a5, mask)
        store(out, 6, oa, a6, mask)
        store(out, 7, oa, a7, mask)


@triton.jit
def _weigh(
    maps, grad, found, walk, still,
    images, c_in, c_out, taps, h, w, rows, columns, runs, parts_in, parts_out, splits,
    mb, mc, ma, mh, mw,
    gb, gc, ga, gh, gw,
    BASIS: tl.constexpr,
    ORDER: tl.constexpr,
    STRIDE: tl.constexpr,
    POSITIONS: tl.constexpr,
    FIELDS_IN: tl.constexpr,
    FIELDS_OUT: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0)
    field = (index % parts_in) * FIELDS_IN + tl.arange(0, FIELDS_IN)
    index = index // parts_in
    written = (index % parts_out) * FIELDS_OUT + tl.arange(0, FIELDS_OUT)
    index = index // parts_out
    z, split = index % taps, index // taps
    steps = walk + 4 + z * (1 + 2 * ORDER)
    w0 = tl.zeros((FIELDS_OUT, FIELDS_IN), dtype=tl.float32)
    w1, w2, w3, w4, w5, w6, w7 = w0, w0, w0, w0, w0, w0, w0
    for run in range(split, runs, splits):
        position = run * POSITIONS + tl.arange(0, POSITIONS)
        y, x = position // columns % rows, position % columns
        image = position // (columns * rows)
        inside = (image < images)[None, :]
        at = grad + (written * gc)[:, None] + (image * gb + y * gh + x * gw)[None, :]
        known = (written < c_out)[:, None] & inside
        g0, g1, g2, g3, g4, g5, g6, g7 = coefficients(
            at, still + 4, y, x, known, rows, columns, ga, gh, gw, BASIS, ORDER, OPERAND
        )
        y, x = y * STRIDE, x * STRIDE
        at = maps + (field * mc)[:, None] + (image * mb + y * mh + x * mw)[None, :]
        known = (field < c_in)[:, None] & inside
        v0, v1, v2, v3, v4, v5, v6, v7 = coefficients(at, steps, y, x, known, h, w, ma, mh, mw, BASIS, ORDER, OPERAND)
        w0, w1, w2, w3, w4, w5, w6, w7 = weighed(
            w0, w1, w2, w3, w4, w5, w6, w7, v0, v1, v2, v3, v4, v5, v6, v7, g0, g1, g2, g3, g4, g5, g6, g7,
            BASIS, PRECISION,
        )  # fmt: skip
    each = taps * c_in * c_out
    # a block of d x d entries has as many filters
    entries = 1 if BASIS == "C1" else 2 if BASIS == "C2" else 6 if BASIS == "C4" else ORDER
    found += split * entries * each + (z * c_out + written)[:, None] * c_in + field[None, :]
    mask = (written < c_out)[:, None] & (field < c_in)[None, :]
    store(found, 0, each, w0, mask)
    if ORDER > 1:
        store(found, 1, each, w1, mask)
    if ORDER > 2:
        store(found, 2, each, w2, mask)
        store(found, 3, each, w3, mask)
    if entries > 4:
        store(found, 4, each, w4, mask)
        store(found, 5, each, w5, mask)
    if entries > 6:
        store(found, 6, each, w6, mask)
        store(found, 7, each, w7, mask)


@lru_cache(maxsize=1024)
def _walk(window: Window, of_input: bool, device: torch.device) -> torch.Tensor:
    """The walk of the convolution, or that of its input's gradient."""
    spread, sign = (window.stride, -1) if of_input else (1, 1)
    rows = []
    for remainders in itertools.product(range(spread), repeat=2):
        visited = []
        for z, taps in enumerate(window.taps):
            steps = []
            for tap in taps:
                places = zip(remainders, divmod(tap, window.kernel), strict=True)
                pair = [divmod(remainder + sign * (place - window.padding), spread) for remainder, place in places]
                steps.append([step if pair[0][1] == pair[1][1] == 0 else FAR for step, _ in pair])
            if any(step[0] != FAR for step in steps):
                visited.append([z, *itertools.chain(*steps)])
        rows.append([len(visited), *remainders, *itertools.chain(*visited)])
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int32, device=device)


@lru_cache(maxsize=1024)
def _inverted(window: Window, gathered: bool, device: torch.device) -> torch.Tensor:
    """Where a weight has what w~_y(u) is, in the order of u and y."""
    group, taps = window.group, window.taps
    places = [
        group.inverse(u) * len(taps) + (moved[u] if gathered else y)
        for u in group.elements
        for y, moved in enumerate(taps)
    ]
    return torch.tensor(places, device=device)


def _entries(filters: Sequence[torch.Tensor], window: Window) -> torch.Tensor:
    """The entries of all blocks of ``irrep_filters``: (entries, k * k, c_out, c_in); differentiable."""
    found = []
    for block, one in zip(window.basis.blocks, filters, strict=True):
        d = block.dimension
        split = one.reshape(d, one.shape[0] // d, window.kernel**2, d, -1)
        found.append(split.permute(0, 3, 2, 1, 4).flatten(0, 1))
    return torch.cat(found)


def _of_input(weight: torch.Tensor, index: torch.Tensor | None, window: Window) -> torch.Tensor:
    """The entries of the filters w~."""
    places = _inverted(window, index is None, weight.device)
    own = weight.flatten(2).index_select(2, places).view_as(weight).transpose(0, 1)
    return _entries(irrep_filters(own, None, window), window)


def _precision() -> str:
    """How float32 is multiplied: as in PyTorch's own convolutions."""
    convolution = getattr(torch.backends.cudnn, "conv", None)
    if convolution is None or not hasattr(convolution, "fp32_precision"):
        return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    # where both interfaces exist, reading the older one raises once a program has set the newer one
    return "tf32" if convolution.fp32_precision == "tf32" else "ieee"


def _constants(maps: torch.Tensor, window: Window) -> dict[str, Any]:
    group = window.group
    operand = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}.get(maps.dtype, tl.float32)
    return {
        "BASIS": "C2" if group.order == 2 else group.name,
        "ORDER": group.order,
        # Triton's interpreter would multiply the bits of bfloat16
        "OPERAND": tl.float32 if INTERPRETED else operand,
        "PRECISION": _precision(),
        "num_warps": 8 if group.order == 8 else 4,
        # a tile is loaded into registers, not ahead into shared memory
        "num_stages": 1,
        "enable_fp_fusion": True,
    }


def _tile(count: int, largest: int) -> int:
    wanted: int = triton.next_power_of_2(count)
    return min(largest, max(16, wanted))


def _near(maps: torch.Tensor) -> torch.Tensor:
    """The maps, or a copy of them where elements are too far apart for offsets of 32 bits."""
    reach = sum((size - 1) * step for size, step in zip(maps.shape, maps.stride(), strict=True))
    return maps if reach < LIMIT else maps.contiguous()


def takes(features: torch.Tensor, c_out: int, window: Window) -> bool:
    """Whether the kernels serve maps (B, c_in * A, h, w) and c_out fields, by window, dtype and sizes."""
    if window.lifts or window.sections > 1:
        return False
    images, channels, *sizes = features.shape
    out = [window.size_out(size + 2 * window.padding) for size in sizes]
    written, filters = images * c_out * window.group.order * math.prod(out), channels * c_out * window.kernel**2
    largest = max(features.numel(), written, filters * window.basis.order)
    return features.dtype in DTYPES and min(features.numel(), c_out, *out) > 0 and largest < LIMIT


def _launch(
    maps: torch.Tensor,
    entries: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    window: Window,
    of_input: bool = False,
) -> None:
    """Write the convolution of (B, c_in, A, h, w), or its input's gradient, into (B, c_out, A, h_out, w_out)."""
    maps = _near(maps)
    (images, c_in, _, h, w), (_, c_out, _, h_out, w_out) = maps.shape, out.shape
    stride, spread = (1, window.stride) if of_input else (window.stride, 1)
    walk = _walk(window, of_input, maps.device)
    rows, columns = triton.cdiv(h_out, spread), triton.cdiv(w_out, spread)
    positions, fields_out = _tile(images * rows * columns, POSITIONS), _tile(c_out, FIELDS_OUT)
    runs, parts = triton.cdiv(images * rows * columns, positions), triton.cdiv(c_out, fields_out)
    with _on(out):
        _convolve[(len(walk) * runs * parts,)](
            *(maps, entries, out if bias is None else bias, out, walk),
            *(images, c_in, c_out, window.kernel**2, h, w, rows, columns, h_out, w_out, runs, parts, walk.stride(0)),
            *maps.stride(),
            *out.stride(),
            STRIDE=stride,
            SPREAD=spread,
            BIASED=bias is not None,
            POSITIONS=positions,
            FIELDS_IN=FIELDS_IN,
            FIELDS_OUT=fields_out,
            **_constants(maps, window),
        )


def forward(
    features: torch.Tensor, filters: Sequence[torch.Tensor], bias: torch.Tensor | None, window: Window
) -> torch.Tensor:
    """As ``irreps.forward``."""
    maps = window.split(features)
    rows, columns = (window.size_out(size + 2 * window.padding) for size in maps.shape[-2:])
    entries = _entries(filters, window).to(maps.dtype)
    out = maps.new_empty((len(maps), entries.shape[2], maps.shape[2], rows, columns))
    _launch(maps, entries, bias, out, window)
    return window.joined(out)


def gradients(
    gradient: torch.Tensor,
    features: torch.Tensor,
    weight: torch.Tensor,
    index: torch.Tensor | None,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Of features and weight, where wanted."""
    upstream, maps = window.split(gradient), window.split(features)
    of_features = of_weight = None
    if wanted[0]:
        into = torch.empty_like(maps, memory_format=torch.contiguous_format)
        _launch(upstream, _of_input(weight.float(), index, window).to(maps.dtype), None, into, window, of_input=True)
        of_features = window.joined(into)
    if wanted[1]:
        with torch.enable_grad():
            leaf = weight.detach().float().requires_grad_()
            entries = _entries(irrep_filters(leaf, index, window), window)
        (of_weight,) = torch.autograd.grad(entries, leaf, _of_entries(maps, upstream, window))
        of_weight = of_weight.to(weight.dtype)
    return of_features, of_weight


def _of_entries(maps: torch.Tensor, upstream: torch.Tensor, window: Window) -> torch.Tensor:
    """The gradient of ``_entries`` in float32."""
    maps, upstream = _near(maps), _near(upstream)
    (images, c_in, _, h, w), (_, c_out, _, rows, columns) = maps.shape, upstream.shape
    taps, entries = window.kernel**2, sum(block.dimension**2 for block in window.basis.blocks)
    still = _walk(Window(window.group, 1, 1, 0), False, maps.device)
    positions = images * rows * columns
    tiles = _tile(positions, WEIGHED_POSITIONS), _tile(c_in, WEIGHED_IN), _tile(c_out, WEIGHED_OUT)
    runs, parts_in, parts_out = map(triton.cdiv, (positions, c_in, c_out), tiles)
    programs = parts_in * parts_out * taps
    splits = max(1, min(runs, PROGRAMS // programs))
    found = maps.new_empty((splits, entries, taps, c_out, c_in), dtype=torch.float32)
    with _on(maps):
        _weigh[(programs * splits,)](
            *(maps, upstream, found, _walk(window, False, maps.device), still),
            *(images, c_in, c_out, taps, h, w, rows, columns, runs, parts_in, parts_out, splits),
            *maps.stride(),
            *upstream.stride(),
            STRIDE=window.stride,
            POSITIONS=tiles[0],
            FIELDS_IN=tiles[1],
            FIELDS_OUT=tiles[2],
            **_constants(maps, window),
        )
    return found.sum(0)
