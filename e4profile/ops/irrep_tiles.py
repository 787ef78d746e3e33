# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: PLR0917
"""What a Triton program of the irrep basis does with its tiles (fields, positions): gather, butterflies, products.

Butterflies are of the slots that a group has: C1 of one, C2 (and D1) of two, C4 and D2 of four, D4 of eight. Every
function runs inside a kernel.
"""

# No `from __future__ import annotations` here: Triton 3.0 knows a constexpr by the annotation itself.

import triton
import triton.language as tl


@triton.jit
def to_irreps(v0, v1, v2, v3, v4, v5, v6, v7, BASIS: tl.constexpr):
    """The coefficients by slot, of the elements' maps: the butterflies of ``irrep_basis.transformed``."""
    if BASIS == "C2":
        v0, v1 = v0 + v1, v0 - v1
    elif BASIS == "D2":
        v0, v1, v2, v3 = v0 + v1, v0 - v1, v2 + v3, v2 - v3
        v0, v2, v1, v3 = v0 + v2, v0 - v2, v1 + v3, v1 - v3
    elif BASIS != "C1":
        v0, v2, v3, v1 = v0 + v2, v0 - v2, v3 + v1, v3 - v1
        v0, v3 = v0 + v3, v0 - v3
        if BASIS == "D4":
            v4, v6, v7, v5 = v4 + v6, v4 - v6, v7 + v5, v7 - v5
            v4, v7 = v4 + v7, v4 - v7
            v0, v4, v3, v7 = v0 + v4, v0 - v4, v3 + v7, v3 - v7
            v2, v6, v5, v1 = v2 + v6, v2 - v6, v5 + v1, v5 - v1
    return v0, v1, v2, v3, v4, v5, v6, v7


@triton.jit
def from_irreps(v0, v1, v2, v3, v4, v5, v6, v7, BASIS: tl.constexpr):
    """The elements' maps, of products by slot: the butterflies of ``irrep_basis.transformed``, back."""
    if BASIS == "C2":
        v0, v1 = v0 + v1, v0 - v1
    elif BASIS == "D2":
        v0, v2, v1, v3 = v0 + v2, v0 - v2, v1 + v3, v1 - v3
        v0, v1, v2, v3 = v0 + v1, v0 - v1, v2 + v3, v2 - v3
    elif BASIS != "C1":
        if BASIS == "D4":
            v0, v4, v3, v7 = v0 + v4, v0 - v4, v3 + v7, v3 - v7
            v2, v6, v5, v1 = v2 + v6, v2 - v6, v5 + v1, v5 - v1
            v4, v7 = v4 + v7, v4 - v7
            v4, v6, v7, v5 = v4 + v6, v4 - v6, v7 + v5, v7 - v5
        v0, v3 = v0 + v3, v0 - v3
        v0, v2, v3, v1 = v0 + v2, v0 - v2, v3 + v1, v3 - v1
    return v0, v1, v2, v3, v4, v5, v6, v7


@triton.jit
def _read(at, steps, b, y, x, known, h, w, ma, mh, mw):
    """Element b's map where its steps from (y, x) lead, zero outside: (fields, positions)."""
    down, across = tl.load(steps + 2 * b), tl.load(steps + 2 * b + 1)
    row, column = y + down, x + across
    there = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    away = down.to(tl.int64) * mh + across.to(tl.int64) * mw + b * ma
    return tl.load(at + away, mask=known & there[None, :], other=0.0).to(tl.float32)


@triton.jit
def coefficients(
    at, steps, y, x, known, h, w, ma, mh, mw, BASIS: tl.constexpr, ORDER: tl.constexpr, OPERAND: tl.constexpr
):  # fmt: skip
    """What is multiplied, by slot, rounded to the maps' dtype; slots that the group does not have repeat slot 0."""
    v0 = _read(at, steps, 0, y, x, known, h, w, ma, mh, mw)
    v1, v2, v3, v4, v5, v6, v7 = v0, v0, v0, v0, v0, v0, v0
    if ORDER > 1:
        v1 = _read(at, steps, 1, y, x, known, h, w, ma, mh, mw)
    if ORDER > 2:
        v2 = _read(at, steps, 2, y, x, known, h, w, ma, mh, mw)
        v3 = _read(at, steps, 3, y, x, known, h, w, ma, mh, mw)
    if ORDER > 4:
        v4 = _read(at, steps, 4, y, x, known, h, w, ma, mh, mw)
        v5 = _read(at, steps, 5, y, x, known, h, w, ma, mh, mw)
        v6 = _read(at, steps, 6, y, x, known, h, w, ma, mh, mw)
        v7 = _read(at, steps, 7, y, x, known, h, w, ma, mh, mw)
    v0, v1, v2, v3, v4, v5, v6, v7 = to_irreps(v0, v1, v2, v3, v4, v5, v6, v7, BASIS)
    dtype = at.dtype.element_ty
    v0, v1, v2, v3 = v0.to(dtype), v1.to(dtype), v2.to(dtype), v3.to(dtype)
    v4, v5, v6, v7 = v4.to(dtype), v5.to(dtype), v6.to(dtype), v7.to(dtype)
    v0, v1, v2, v3 = v0.to(OPERAND), v1.to(OPERAND), v2.to(OPERAND), v3.to(OPERAND)
    v4, v5, v6, v7 = v4.to(OPERAND), v5.to(OPERAND), v6.to(OPERAND), v7.to(OPERAND)
    return v0, v1, v2, v3, v4, v5, v6, v7


@triton.jit
def _product(total, v, filters, entry, each, known, PRECISION: tl.constexpr):
    filter = tl.load(filters + entry * each, mask=known, other=0.0).to(v.dtype)
    return tl.dot(filter, v, total, input_precision=PRECISION)


@triton.jit
def multiplied(
    a0, a1, a2, a3, a4, a5, a6, a7, v0, v1, v2, v3, v4, v5, v6, v7, f, each, k,
    BASIS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sums a (fields out, positions) with a tap's products: filters lie from f on, ``each`` apart, k of them known.

    What is multiplied by what is ``Basis.blocks``: an entry for each slot of dimension 1, then the four of a 2 x 2
    block, whose every row of slots they multiply.
    """
    a0 = _product(a0, v0, f, 0, each, k, PRECISION)
    if BASIS == "C2":
        a1 = _product(a1, v1, f, 1, each, k, PRECISION)
    elif BASIS == "D2":
        a1 = _product(a1, v1, f, 1, each, k, PRECISION)
        a2 = _product(a2, v2, f, 2, each, k, PRECISION)
        a3 = _product(a3, v3, f, 3, each, k, PRECISION)
    elif BASIS == "C4":
        a3 = _product(a3, v3, f, 1, each, k, PRECISION)
        a2 = _product(a2, v2, f, 2, each, k, PRECISION)
        a2 = _product(a2, v1, f, 3, each, k, PRECISION)
        a1 = _product(a1, v2, f, 4, each, k, PRECISION)
        a1 = _product(a1, v1, f, 5, each, k, PRECISION)
    elif BASIS == "D4":
        a3 = _product(a3, v3, f, 1, each, k, PRECISION)
        a4 = _product(a4, v4, f, 2, each, k, PRECISION)
        a7 = _product(a7, v7, f, 3, each, k, PRECISION)
        a6 = _product(a6, v6, f, 4, each, k, PRECISION)
        a1 = _product(a1, v1, f, 4, each, k, PRECISION)
        a6 = _product(a6, v5, f, 5, each, k, PRECISION)
        a1 = _product(a1, v2, f, 5, each, k, PRECISION)
        a5 = _product(a5, v6, f, 6, each, k, PRECISION)
        a2 = _product(a2, v1, f, 6, each, k, PRECISION)
        a5 = _product(a5, v5, f, 7, each, k, PRECISION)
        a2 = _product(a2, v2, f, 7, each, k, PRECISION)
    return a0, a1, a2, a3, a4, a5, a6, a7


@triton.jit
def _pair(total, g, v, PRECISION: tl.constexpr):
    return tl.dot(g, tl.trans(v), total, input_precision=PRECISION)


@triton.jit
def weighed(
    w0, w1, w2, w3, w4, w5, w6, w7, v0, v1, v2, v3, v4, v5, v6, v7, g0, g1, g2, g3, g4, g5, g6, g7,
    BASIS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients w (fields out, fields in) of the entries with those of some positions: as in ``multiplied``."""
    w0 = _pair(w0, g0, v0, PRECISION)
    if BASIS == "C2":
        w1 = _pair(w1, g1, v1, PRECISION)
    elif BASIS == "D2":
        w1 = _pair(w1, g1, v1, PRECISION)
        w2 = _pair(w2, g2, v2, PRECISION)
        w3 = _pair(w3, g3, v3, PRECISION)
    elif BASIS == "C4":
        w1 = _pair(w1, g3, v3, PRECISION)
        w2 = _pair(w2, g2, v2, PRECISION)
        w3 = _pair(w3, g2, v1, PRECISION)
        w4 = _pair(w4, g1, v2, PRECISION)
        w5 = _pair(w5, g1, v1, PRECISION)
    elif BASIS == "D4":
        w1 = _pair(w1, g3, v3, PRECISION)
        w2 = _pair(w2, g4, v4, PRECISION)
        w3 = _pair(w3, g7, v7, PRECISION)
        w4 = _pair(w4, g6, v6, PRECISION)
        w4 = _pair(w4, g1, v1, PRECISION)
        w5 = _pair(w5, g6, v5, PRECISION)
        w5 = _pair(w5, g1, v2, PRECISION)
        w6 = _pair(w6, g5, v6, PRECISION)
        w6 = _pair(w6, g2, v1, PRECISION)
        w7 = _pair(w7, g5, v5, PRECISION)
        w7 = _pair(w7, g2, v2, PRECISION)
    return w0, w1, w2, w3, w4, w5, w6, w7


@triton.jit
def store(out, b, step, tile, mask):
    """Write what is the b-th, rounded to the tensor's dtype."""
    tl.store(out + b * step, tile.to(out.dtype.element_ty), mask=mask)
