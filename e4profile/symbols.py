"""The symbols of every closed form, declared once.

Sizes are positive integers. An indicator is 1 when a layer has the named part and 0 when it has not, so
that a term which depends on an argument is still said once, in the layer's table.
"""

from __future__ import annotations

import sympy as sp


def _size(name: str) -> sp.Symbol:
    return sp.Symbol(name, integer=True, positive=True)


def _indicator(name: str) -> sp.Symbol:
    return sp.Symbol(name, integer=True, nonnegative=True)


B = _size("B")
A = _size("A")
c_in, c_out = _size("c_in"), _size("c_out")
h, w = _size("h"), _size("w")
h_out, w_out = _size("h_out"), _size("w_out")
k = _size("k")
k_h, k_w = _size("k_h"), _size("k_w")
r = _size("r")
s = _size("s")
n_groups = _size("n_groups")

h_conv, w_conv = _size("h_conv"), _size("w_conv")
A_V, A_K = _size("A_V"), _size("A_K")
affine_pairs = _size("q")

k_gate = _size("k_gate")
D, H, P = _size("D"), _size("H"), _size("P")
n_hidden = _size("n_hidden")

c_spatial = _size("c_s")
W_inside, N_inside, Q_inside = _indicator("W"), _indicator("N"), _indicator("Q")

A_in, A_out, A_rel = _size("A_in"), _size("A_out"), _size("A_rel")
n_k = _size("n_k")
n_grids = _size("n_grids")

n_in, n_out = _size("n_in"), _size("n_out")

has_bias = _indicator("beta")
is_dense = _indicator("delta")
has_affine = _indicator("alpha")
has_encoder_norm = _indicator("nu")
has_encoder_bias, has_squeeze_bias = _indicator("beta_V"), _indicator("beta_K")
is_pooled, is_sampled = _indicator("delta_pool"), _indicator("delta_sample")
is_expanded, is_regrouped = _indicator("delta_affine"), _indicator("delta_hidden")
keeps_input, is_masked = _indicator("delta_input"), _indicator("delta_mask")
is_reference = _indicator("delta_reference")
is_shared_out = _indicator("delta_shares")
is_sliced = _indicator("delta_slice")
is_roomy = _indicator("delta_room")
is_large = _indicator("delta_large")
is_large_encoder, is_large_squeeze = _indicator("delta_large_V"), _indicator("delta_large_K")
is_cropped = _indicator("delta_crop")

MEANING: dict[sp.Symbol, str] = {
    B: "images in the batch",
    A: "order of the point group",
    c_in: "input fields (channels of a plain layer)",
    c_out: "output fields (channels of a plain layer)",
    h: "input height in pixels",
    w: "input width in pixels",
    h_out: "output height in pixels",
    w_out: "output width in pixels",
    h_conv: "height at which the convolution itself runs",
    w_conv: "width at which the convolution itself runs",
    k: "kernel size",
    k_h: "kernel height",
    k_w: "kernel width",
    r: "reduction ratio: a branch is squeezed to c_in / r fields; the larger, the cheaper",
    s: "slices: stencils per position and group element, each shared by c_out / s fields",
    n_groups: "groups of a grouped plain convolution",
    A_V: "group elements concatenated by the encoder: A, or 1 without concatenation",
    A_K: "group elements concatenated by the kernel branch: A, or 1 without concatenation",
    k_gate: "kernel size of a spatial gate",
    D: "channels of one attention head",
    H: "attention heads",
    P: "position features per axis (rows, columns) of one attention head",
    n_hidden: "hidden units of a position network",
    affine_pairs: "affine pairs per field of the squeeze norm: 1, or A for one per channel",
    c_spatial: "input fields that one spatial factor sums over: c_in (g-separable) or 1 (gc-separable)",
    W_inside: "weight elements inside a container",
    N_inside: "norm-weight elements inside a container",
    Q_inside: "convolution MACs, charged at output positions, inside a container",
    is_dense: "1 where the factors are multiplied into a dense filter bank first, else 0",
    A_in: "channels of one input field: A for a regular field, 1 for a trivial one",
    A_out: "channels of one output field: A for a regular field, 1 for a trivial one",
    A_rel: "free kernel functions between two fields: A between regular fields, else 1",
    n_grids: "rotated grids that a kernel is sampled on: A with a regular field on either side, else 1",
    n_k: "ring harmonics that span one kernel function: 1, 6, 11, 18, 31 for k = 1, 3, 5, 7, 9",
    n_in: "elements of one image's input",
    n_out: "elements of one image's output",
    is_pooled: "1 where a max-pool realises the stride, else 0",
    is_sampled: "1 where a strided branch copies the positions it samples, else 0",
    is_expanded: "1 where one affine pair per field is copied to every group element, else 0",
    is_regrouped: "1 where the hidden maps are copied so that group elements come first, else 0",
    keeps_input: "1 where a pooling keeps its input for backward, else 0",
    is_masked: "1 where dropout draws a mask, else 0",
    is_reference: "1 where the aggregation runs as unfold, multiply, sum, else 0",
    is_roomy: "1 where unfolded values are fewer than the values, else 0",
    is_sliced: "1 where a strided branch slices out the positions it samples, else 0",
    is_large: "1 where a filter bank is so large that its gradient is folded in the same step of autograd, else 0",
    is_large_encoder: "1 where the encoder's filter bank is large: its gradient is folded in the same step, else 0",
    is_large_squeeze: "1 where the squeeze's filter bank is large: its gradient is folded in the same step, else 0",
    is_cropped: "1 where a crop drops any pixel, else 0",
    is_shared_out: "1 where the channels are shared out to several pool sizes, else 0",
    has_bias: "1 with a bias, else 0",
    has_affine: "1 with an affine pair, else 0",
    has_encoder_norm: "1 with a batch norm on the encoder branch, else 0",
    has_encoder_bias: "1 where the encoder has a bias (no concatenation), else 0",
    has_squeeze_bias: "1 where the squeeze has a bias (no concatenation), else 0",
}
"""What each symbol stands for, for documentation and ``e4profile formula``."""
