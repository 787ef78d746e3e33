"""Both executions of a group convolution against the plain convolution of the same expanded size, in one run.

    python benchmarks/group_convolution.py [--samples 15] [--threads 1] [--out reports/benchmarks]

Evaluation is a forward pass without gradients, training a forward and backward pass with the gradients of input and
weight. Everything runs twice, each in a process of its own: with the system's allocator as it is, and with one that
never gives pages back, for a filter bank and its gradient are fresh memory in every training step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from allocators import ALLOCATORS, run_under, sample_count
from torch import nn

from e4profile.layers import GroupConv2d
from e4profile.witnesses.environment import environment

# (fields, group, map size, kernel): stages of p4-R18 and of p4m-R18, from the widest maps to the most fields, and a
# branch of an E4 layer
SIZES = (
    (32, "p4", 32, 3), (128, "p4", 8, 3), (256, "p4", 4, 3),
    (22, "p4m", 32, 3), (44, "p4m", 16, 3), (88, "p4m", 8, 3), (176, "p4m", 4, 3), (128, "p4m", 16, 1),
)  # fmt: skip
BATCHES = (1, 32)


def evaluation(layer: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    layer.eval()

    def run() -> object:
        with torch.no_grad():
            return layer(images)

    return run


def training(layer: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    layer.train()
    images = images.clone().requires_grad_()

    def run() -> object:
        layer.zero_grad(set_to_none=True)
        images.grad = None
        return layer(images).sum().backward()

    return run


MODES = {"evaluation": evaluation, "training": training}


def interleaved(works: dict[str, Callable[[], object]], samples: int) -> dict[str, dict[str, list[float]]]:
    """Wall and processor seconds of each, sample by sample in turn, after two rounds that do not count."""
    found: dict[str, dict[str, list[float]]] = {name: {"wall_s": [], "processor_s": []} for name in works}
    for turn in range(-2, samples):
        for name, work in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            work()
            if turn >= 0:
                found[name]["processor_s"].append(time.process_time() - processor)
                found[name]["wall_s"].append(time.perf_counter() - wall)
    return found


def measure(samples: int) -> Iterator[dict[str, object]]:
    """One process's measurements: rows with their raw samples."""
    for fields, group, size, kernel in SIZES:
        window = {"kernel": kernel, "padding": kernel // 2}
        grouped = GroupConv2d(fields, fields, **window, group=group)
        irreps = GroupConv2d(fields, fields, **window, group=group, execution="irreps")
        chosen = GroupConv2d(fields, fields, **window, group=group, execution="auto")
        channels = fields * grouped.group.order
        plain = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        for batch in BATCHES:
            images = torch.randn(batch, channels, size, size)
            for mode, make in MODES.items():
                works = {"group": make(grouped, images), "irreps": make(irreps, images), "plain": make(plain, images)}
                setting = {
                    "fields": fields,
                    "group": group,
                    "size": size,
                    "kernel": kernel,
                    "batch": batch,
                    "mode": mode,
                }
                setting["auto"] = "irreps" if chosen.in_irreps(images.shape) else "bank"
                found = interleaved(works, samples)
                yield {**setting, **ratios(found), "samples": found}


def ratios(found: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Medians of the paired ratios: group over plain, and plain over irreps."""
    pairs = {"": ("group", "plain"), "irreps_": ("plain", "irreps")}
    return {
        f"{prefix}{clock}_ratio": statistics.median(
            a / b for a, b in zip(found[one][f"{clock}_s"], found[other][f"{clock}_s"], strict=True)
        )
        for prefix, (one, other) in pairs.items()
        for clock in ("wall", "processor")
    }


HEAD = """# Both executions of a group convolution against the plain convolution of the same expanded size

{cpu}, {threads} thread(s), float32, PyTorch {torch}, Python {python}, {samples} interleaved samples of each.
Evaluation is a forward pass without gradients, training forward and backward with the gradients of input
and weight.

Milliseconds are medians of wall time with the interquartile range in brackets; ratios are medians of paired ratios,
by wall time and by processor time, which a busy machine disturbs less: the filter bank's time over the plain
convolution's, and how many times faster than the plain convolution the irrep basis is. ``auto`` is what a layer chooses
by its sizes, and its last column that choice's time over the other's, as a paired ratio by processor time: above 1, the
choice costs that much.
"""
COLUMNS = (
    "fields|group|map|k|batch|mode|bank ms|irreps ms|plain ms|"
    "bank, wall|processor|irreps, wall|processor|auto|auto / other"
)


def over_the_other(row: dict) -> float:
    """The time of what ``auto`` chooses over that of the other execution: the median of the paired ratios."""
    times = {name: row["samples"][key]["processor_s"] for name, key in (("bank", "group"), ("irreps", "irreps"))}
    chosen = times.pop(row["auto"])
    (other,) = times.values()
    return statistics.median(a / b for a, b in zip(chosen, other, strict=True))


def table(rows: list[dict]) -> list[str]:
    lines = [f"|{COLUMNS}|", "|" + "---|" * len(COLUMNS.split("|"))]
    for row in rows:
        cells = [str(row["fields"]), row["group"], f"{row['size']}×{row['size']}", str(row["kernel"])]
        cells += [str(row["batch"]), row["mode"]]
        for one in map(row["samples"].get, ("group", "irreps", "plain")):
            low, middle, high = statistics.quantiles(one["wall_s"], n=4)
            cells.append(f"{middle * 1e3:.1f} ({(high - low) * 1e3:.1f})")
        clocks = ("wall_ratio", "processor_ratio", "irreps_wall_ratio", "irreps_processor_ratio")
        cells += [*(f"{row[key]:.2f}×" for key in clocks), row["auto"], f"{over_the_other(row):.2f}×"]
        lines.append(f"|{'|'.join(cells)}|")
    return lines


def markdown(results: dict[str, dict], samples: int) -> str:
    lines = [HEAD.format(**results["system"]["environment"], samples=samples)]
    for name, result in results.items():
        lines += [f"## Allocator: {name}", "", *table(result["rows"]), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=sample_count, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for group_convolution.json and group_convolution.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        torch.set_num_threads(arguments.threads)
        json.dump({"environment": environment(), "rows": list(measure(arguments.samples))}, sys.stdout)
        return
    command = [__file__, "--child", "--samples", str(arguments.samples), "--threads", str(arguments.threads)]
    results = {name: json.loads(run_under(name, command, arguments.threads)) for name in ALLOCATORS}
    text = markdown(results, arguments.samples)
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "group_convolution.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (arguments.out / "group_convolution.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
