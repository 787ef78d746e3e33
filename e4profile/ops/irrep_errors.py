"""How far a device's convolutions in the irrep basis are from the filter bank in float64."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from e4profile.groups import GRID_EXACT
from e4profile.ops.choice import irrep_kernels_for
from e4profile.ops.irrep_basis import Window
from e4profile.ops.irreps import convolve

TOLERANCES = {"float32": 1e-5, "tf32": 4e-3, "float16": 4e-3, "bfloat16": 3e-2}
"""Of errors relative to the largest element, by what is multiplied."""
SETTINGS = tuple(itertools.product((1, 3, 5), (1, 2)))
"""Kernels and strides."""


def errors(
    window: Window,
    dtype: torch.dtype,
    device: str,
    fields: tuple[int, int] = (3, 2),
    maps: tuple[int, int, int] = (1, 4, 3),
) -> dict[str, float]:
    """Those of output and gradients, relative to the largest element of what is exact.

    Args:
        window: without cosets.
        dtype: of features, weight, bias and the output's gradient, which float64 starts from as well.
        device: where it runs.
        fields: c_in, c_out.
        maps: batch, h, w.
    """
    (c_in, c_out), (batch, *size), group, k = fields, maps, window.group, window.kernel
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    given = drawn(batch, c_in * group.order, *size), drawn(c_out, c_in, group.order, k, k), drawn(c_out)
    places = torch.tensor(group.filter_bank_index(k), device=device)[:, None]
    index = (places + group.order * k * k * torch.arange(c_in, device=device)[:, None, None]).flatten()
    features, weight, bias = exact = [one.double().requires_grad_() for one in given]
    bank = weight.flatten(1)[:, index].view(c_out * group.order, -1, k, k)
    wanted = F.conv2d(features, bank, bias.repeat_interleave(group.order), window.stride, window.padding)
    upstream = drawn(*wanted.shape)
    leaves = f, w, b = [one.requires_grad_() for one in given]
    made = convolve(f, w, b, index, window)
    pairs = zip(
        ("output", "gradient of input", "gradient of weight", "gradient of bias"),
        (made, *torch.autograd.grad(made, leaves, upstream)),
        (wanted, *torch.autograd.grad(wanted, exact, upstream.double())),
        strict=True,
    )
    return {name: ((one.double() - other).abs().max() / other.abs().max()).item() for name, one, other in pairs}


def check(
    device: str = "cuda",
    products: Sequence[str] = tuple(TOLERANCES),
    *,
    full: bool = False,
    fields: tuple[int, int] = (40, 70),
    maps: tuple[int, int, int] = (5, 17, 16),
) -> list[dict[str, object]]:
    """A row by group and dtype: setting, ``errors``, their tolerance, and whether Triton's kernels ran.

    Args:
        device: where it runs.
        products: keys of ``TOLERANCES``.
        full: every group at every setting; by default each group at one, another by group and by what is multiplied.
        fields: c_in, c_out.
        maps: batch, h, w.
    """
    rows = list[dict[str, object]]()
    for n, (name, group) in enumerate(itertools.product(products, GRID_EXACT)):
        dtype = torch.float32 if name == "tf32" else getattr(torch, name)
        one = (n + n // len(GRID_EXACT)) % len(SETTINGS)
        for kernel, stride in SETTINGS if full else SETTINGS[one : one + 1]:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=name == "tf32"):
                found = errors(Window(group, kernel, stride, kernel // 2), dtype, device, fields, maps)
            row = {"products": name, "group": group.name, "kernel": kernel, "stride": stride, **found}
            kernels = irrep_kernels_for(torch.empty(0, device=device)) is not None
            rows.append({**row, "tolerance": TOLERANCES[name], "kernels": kernels})
    return rows
