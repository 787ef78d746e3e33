"""The aggregation on a device: exactness against its reference in float64, time, and bandwidth against its floor.

    python benchmarks/gpu_operators.py [--device cuda] [--quick] --out operators.json

The floor of a forward pass reads the stencils (K bytes) and the values (V) once and writes the output (V): K + 2V.
That of a backward pass reads stencils, values and the output's gradient and writes two gradients: 2K + 3V. A plain copy
of as many bytes, measured beside it, is what the device's memory allows. Exit code 1 where a result is not exact.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from device_rows import save_rows

from e4profile.layers import E4Conv2d
from e4profile.ops import aggregate
from e4profile.witnesses.timing.clock import Work
from e4profile.witnesses.timing.measure import clock_for

# B, A, s, fields per slice, k, h, w, stride: one pixel past a tile, more fields than a tile, a stride, one slice
EXACT = ((2, 4, 2, 8, 5, 28, 28, 1), (2, 8, 3, 2, 3, 17, 15, 1), (3, 4, 1, 33, 3, 9, 33, 2), (2, 2, 2, 2, 9, 11, 12, 1))
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}
"""Relative to the largest value of the float64 reference on the same inputs."""

# c, A, k, s, r, size: the layers of the published networks that spend most time in the aggregation
SIZES = {"A": (16, 4, 5, 2, 1, 28), "B": (64, 8, 3, 32, 2, 16), "C": (128, 4, 3, 64, 2, 8)}


def error_of(size: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Forward and both gradients against the reference in float64 on the same inputs."""
    B, A, s, fields, k, h, w, stride = size
    rows, columns = (h - 1) // stride + 1, (w - 1) // stride + 1
    torch.manual_seed(0)
    stencils = torch.randn(B, A, s, k * k, rows, columns, dtype=dtype, device=device, requires_grad=True)
    values = torch.randn(B, s, fields, A, h, w, dtype=dtype, device=device, requires_grad=True)
    found, wanted = (
        aggregate(stencils, values, k, stride),
        aggregate(stencils.double(), values.double(), k, stride, "reference"),
    )
    gradient = torch.randn_like(found)
    left = (found, *torch.autograd.grad(found, (stencils, values), gradient))
    right = (wanted, *torch.autograd.grad(wanted, (stencils, values), gradient.double()))
    errors = [
        (one.double() - other.double()).abs().max().item() / max(1.0, other.abs().max().item())
        for one, other in zip(left, right, strict=True)
    ]
    return {"kind": "exactness", "size": size, "dtype": str(dtype), "error": max(errors), "within": TOLERANCE[dtype]}


def rates_of(label: str, batch_size: int, dtype: torch.dtype, device: str, samples: int) -> dict[str, Any]:
    """Median times of the operator, its reference, a copy and the whole layer, and the bytes per second."""
    clock = clock_for(device)

    def median_s(call: Callable[[], Any], samples: int = samples) -> float:
        work = Work(lambda _: call())
        return statistics.median([clock.read(work).seconds for _ in range(3 + samples)][3:])

    c, A, k, s, r, n = SIZES[label]
    stencils = torch.randn(batch_size, A, s, k * k, n, n, device=device, dtype=dtype, requires_grad=True)
    values = torch.randn(batch_size, s, c // s, A, n, n, device=device, dtype=dtype, requires_grad=True)
    K, V = (one.numel() * one.element_size() for one in (stencils, values))
    output = aggregate(stencils, values, k, 1)
    gradient = torch.randn_like(output)
    with torch.no_grad():
        forward_s = median_s(lambda: aggregate(stencils, values, k, 1))
        reference_s = median_s(lambda: aggregate(stencils, values, k, 1, "reference"), max(1, samples // 3))
    backward_s = median_s(lambda: torch.autograd.grad(output, (stencils, values), gradient, retain_graph=True))
    source, target = (torch.empty((K + 2 * V) // 8, device=device) for _ in range(2))
    group = {4: "p4", 8: "p4m"}[A]
    steps = {}
    for implementation in ("auto", "reference"):
        layer = E4Conv2d(c, c, k, group=group, reduction=r, slices=s, implementation=implementation).to(device, dtype)
        features = torch.randn(batch_size, c * A, n, n, device=device, dtype=dtype, requires_grad=True)
        onward = torch.randn_like(layer(features))
        steps[implementation] = median_s(lambda x=features, g=onward, f=layer: f(x).backward(g), max(1, samples // 3))
    return {
        "kind": "rates", "layer": label, "batch_size": batch_size, "dtype": str(dtype),
        "forward_s": forward_s, "backward_s": backward_s, "reference_forward_s": reference_s,
        "copy_of_forward_bytes_s": median_s(lambda: target.copy_(source)),
        "forward_floor_bytes": K + 2 * V, "backward_floor_bytes": 2 * K + 3 * V,
        "forward_bytes_per_s": (K + 2 * V) / forward_s, "backward_bytes_per_s": (2 * K + 3 * V) / backward_s,
        "layer_step_s": steps["auto"], "reference_layer_step_s": steps["reference"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="exactness of one size")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    sizes, batches, samples = (EXACT[1:2], (), 1) if asked.quick else (EXACT, (32, 512), 30)
    jobs: list[Callable[[], dict[str, Any]]] = [
        lambda size=size, dtype=dtype: error_of(size, dtype, asked.device) for size in sizes for dtype in TOLERANCE
    ]
    jobs += [
        lambda label=label, batch=batch, dtype=dtype: rates_of(label, batch, dtype, asked.device, samples)
        for label in SIZES
        for batch in batches
        for dtype in (torch.float32, torch.bfloat16)
    ]
    wrong = save_rows(jobs, asked.out)
    raise SystemExit(f"{wrong} results are wrong or failed" if wrong else 0)


if __name__ == "__main__":
    main()
