"""The irrep basis on a device: errors against the filter bank in float64, and times of both executions in turn.

    python benchmarks/gpu_irreps.py [--device cuda] [--quick] --out irreps.json

Rows say whether Triton's kernels ran (``kernels``). Exit code 1 where a result is not exact or a size failed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from device_rows import save_rows

from e4profile.layers import GroupConv2d
from e4profile.ops.irrep_errors import TOLERANCES, check
from e4profile.witnesses.timing.clock import Work
from e4profile.witnesses.timing.measure import clock_for

# group, fields, size, kernel: stages of the published networks, a wide p4 layer, and a 1x1
SIZES = (("p4m", 44, 16, 3), ("p4m", 88, 8, 3), ("p4m", 176, 4, 3), ("p4", 128, 8, 3), ("p4m", 128, 16, 1))


def errors_of(products: str, device: str) -> dict[str, Any]:
    """The largest error of output and gradients, all groups, with the settings."""
    small = {} if device == "cuda" else {"fields": (2, 3), "maps": (1, 4, 5)}
    rows = check(device, (products,), **small)
    error = max(value for row in rows for name, value in row.items() if name.split()[0] in ("output", "gradient"))
    return {"kind": "exactness", "products": products, "error": error, "within": TOLERANCES[products], "settings": rows}


def times_of(size: tuple[str, int, int, int], batch_size: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Median times of forward, and of forward and backward, by execution; samples are taken in turn."""
    group, fields, n, kernel = size
    clock, calls = clock_for(device), dict[str, Callable[[], Any]]()
    for execution in ("bank", "irreps"):
        layer = GroupConv2d(fields, fields, kernel, group=group, padding=kernel // 2, execution=execution)
        layer = layer.to(device, dtype)
        features = torch.randn(batch_size, fields * layer.group.order, n, n, device=device, dtype=dtype)
        leaf = features.clone().requires_grad_()
        onward = torch.randn_like(features)
        calls[f"{execution}_forward_s"] = torch.no_grad()(lambda f=layer, x=features: f(x))
        calls[f"{execution}_step_s"] = lambda f=layer, x=leaf, g=onward: f(x).backward(g)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3 + 30):
        for name, call in calls.items():
            taken[name].append(clock.read(Work(lambda _, call=call: call())).seconds)
    found = {name: statistics.median(seconds[3:]) for name, seconds in taken.items()}
    setting = {"group": group, "fields": fields, "size": n, "kernel": kernel, "batch_size": batch_size}
    return {"kind": "times", **setting, "dtype": str(dtype), **found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="errors in bfloat16 alone, and one size")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    products, sizes, batches = (
        (("bfloat16",), (("p4", 1, 4, 1),), (1,)) if asked.quick else (TOLERANCES, SIZES, (32, 512))
    )
    jobs: list[Callable[[], dict[str, Any]]] = [
        lambda size=size, batch=batch, dtype=dtype: times_of(size, batch, dtype, asked.device)
        for dtype in (torch.bfloat16, torch.float32)
        for batch in batches
        for size in sizes
    ]
    # a time of what is wrong is none, so errors come first
    jobs = [lambda one=one: errors_of(one, asked.device) for one in reversed(list(products))] + jobs
    wrong = save_rows(jobs, asked.out)
    raise SystemExit(f"{wrong} results are wrong or failed" if wrong else 0)


if __name__ == "__main__":
    main()
