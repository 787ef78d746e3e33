"""Group convolution against the plain convolution of the same expanded size, interleaved in one run.

python benchmarks/group_convolution.py [--out reports/benchmarks] [--samples 9]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from e4profile.environment import environment
from e4profile.layers import GroupConv2d

# (fields, group, map size): the widest maps and the widest layers of p4-R18, and layers of p4m-R18
SIZES = ((32, "p4", 32), (128, "p4", 8), (256, "p4", 4), (44, "p4m", 16), (176, "p4m", 4))


def forward(layer: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return layer(images)

    return run


def training(layer: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    images = images.clone().requires_grad_()

    def run() -> object:
        layer.zero_grad(set_to_none=True)
        images.grad = None
        return layer(images).sum().backward()

    return run


def paired(a: Callable[[], object], b: Callable[[], object], samples: int) -> dict[str, float]:
    """Medians of both in seconds and the median of the paired ratios a / b."""
    times: tuple[list[float], list[float]] = ([], [])
    for work in (a, b, a, b):
        work()
    for _ in range(samples):
        for work, found in zip((a, b), times, strict=True):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    ratios = [x / y for x, y in zip(*times, strict=True)]
    return {
        "group_median_s": statistics.median(times[0]),
        "plain_median_s": statistics.median(times[1]),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for fields, group, size in SIZES:
        grouped = GroupConv2d(fields, fields, 3, group=group, padding=1)
        channels = fields * grouped.group.order
        plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        for batch, works in ((1, ("evaluation", "training")), (32, ("evaluation", "training"))):
            images = torch.randn(batch, channels, size, size)
            for mode in works:
                layers = [layer.train(mode == "training") for layer in (grouped, plain)]
                make = training if mode == "training" else forward
                found = paired(*(make(layer, images) for layer in layers), arguments.samples)
                results.append({"fields": fields, "group": group, "map": size, "batch": batch, "mode": mode, **found})
    text = json.dumps({"environment": environment(), "samples": arguments.samples, "results": results}, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "group_convolution.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
