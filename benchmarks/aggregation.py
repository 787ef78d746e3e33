"""The aggregation operators against unfold·multiply·sum: time, bytes saved for backward, peak memory.

    python benchmarks/aggregation.py [--samples 15] [--batch-size 32] [--threads 1] [--out reports/benchmarks]

Each run generates the stencils from the hidden maps and aggregates the values with them, forward alone and with
the gradients of all four inputs. Candidates take turns sample by sample, so that a slow spell meets them all.

- reference: a grouped 1×1 convolution, then unfold·multiply·sum
- apart: the same convolution, then `aggregate`
- together: `generate_and_aggregate`

Everything runs twice, each in a process of its own: with the system's allocator as it is, and with one that never
gives pages back (glibc: no mmap, no trim), for much of the reference's time is page faults from its temporaries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from allocators import ALLOCATORS, run_under, sample_count
from torch.profiler import ProfilerActivity, profile

from e4profile.ops import aggregate, aggregate_reference, generate_and_aggregate
from e4profile.witnesses.environment import environment

# c, A, k, s, r, size: the layers of the published networks that spend most time in the aggregation.
SIZES = {
    "c=16 A=4 k=5 s=2 r=1 28×28": (16, 4, 5, 2, 1, 28),
    "c=64 A=8 k=3 s=32 r=2 16×16": (64, 8, 3, 32, 2, 16),
    "c=128 A=4 k=3 s=64 r=2 8×8": (128, 4, 3, 64, 2, 8),
}


def generate(hidden, weight, bias, k):
    B, A, c_mid, h, w = hidden.shape
    rows = weight.shape[1]
    maps = hidden.reshape(B, A * c_mid, h, w)
    stencils = F.conv2d(maps, weight.reshape(A * rows, c_mid, 1, 1), bias.flatten(), groups=A)
    return stencils.view(B, A, rows // (k * k), k * k, h, w)


def reference(hidden, weight, bias, values, k):
    return aggregate_reference(generate(hidden, weight, bias, k), values, k)


def apart(hidden, weight, bias, values, k):
    return aggregate(generate(hidden, weight, bias, k), values, k)


CANDIDATES = {"reference": reference, "apart": apart, "together": generate_and_aggregate}


def make_inputs(size, batch_size):
    c, A, k, s, r, n = size
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch_size, A, c // r, n, n), (A, s * k * k, c // r), (A, s * k * k), (batch_size, s, c // s, A, n, n))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes], k


def forward(call, inputs, k):
    with torch.no_grad():
        call(*inputs, k)


def forward_backward(call, inputs, k):
    torch.autograd.grad(call(*inputs, k), inputs, torch.ones_like(inputs[3]))


def saved_bytes(call, inputs, k) -> int:
    """Distinct storages kept for backward, whatever they are."""
    storages: dict[int, int] = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(*inputs, k)
    return sum(storages.values())


def peak_bytes(run) -> int:
    """The most that PyTorch's allocator held at once during a run, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def interleaved(run, inputs, k, samples):
    """Wall and processor seconds of each candidate, taken in turns, after one warm-up each."""
    found = {name: {"wall_s": [], "processor_s": []} for name in CANDIDATES}
    for turn in range(samples + 1):
        for name, call in CANDIDATES.items():
            wall, processor = time.perf_counter(), time.process_time()
            run(call, inputs, k)
            if turn:
                found[name]["processor_s"].append(time.process_time() - processor)
                found[name]["wall_s"].append(time.perf_counter() - wall)
    return found


def measure(samples, batch_size):
    """One process's measurements: a list of rows with their raw samples."""
    rows = []
    for label, size in SIZES.items():
        inputs, k = make_inputs(size, batch_size)
        once = interleaved(forward, inputs, k, samples)
        both = interleaved(forward_backward, inputs, k, samples)
        rows += [
            {
                "size": label,
                "candidate": name,
                "forward": once[name],
                "forward+backward": both[name],
                "saved_bytes": saved_bytes(call, inputs, k),
                "peak_bytes": peak_bytes(partial(forward_backward, call, inputs, k)),
            }
            for name, call in CANDIDATES.items()
        ]
    return rows


def child(arguments) -> None:
    torch.set_num_threads(arguments.threads)
    json.dump({"environment": environment(), "rows": measure(arguments.samples, arguments.batch_size)}, sys.stdout)


def run_children(arguments) -> dict[str, dict[str, object]]:
    command = [__file__, "--child", "--samples", str(arguments.samples)]
    command += ["--batch-size", str(arguments.batch_size), "--threads", str(arguments.threads)]
    return {name: json.loads(run_under(name, command, arguments.threads)) for name in ALLOCATORS}


HEAD = """# The aggregation against unfold·multiply·sum

{cpu}, {threads} thread(s), batch {batch_size}, float32, PyTorch {torch}, Python {python}, {samples} interleaved
samples of each. Generator and aggregation: *reference* is a grouped 1×1 convolution then unfold·multiply·sum,
*apart* the same convolution then `aggregate`, *together* `generate_and_aggregate`.

Milliseconds are medians of wall time with the interquartile range in brackets. A ratio is the reference's median over
the candidate's: by wall time, then by processor time, which a busy machine disturbs less. Saved bytes are the distinct
storages kept for backward, weights included; the peak is what PyTorch's allocator held during forward+backward beyond
the inputs, the output's gradient included; both also as a share of the reference's.
"""
COLUMNS = "layer|candidate|forward ms|wall|processor|forward+backward ms|wall|processor|saved MB|share|peak MB|share"


def cell(samples) -> str:
    low, middle, high = statistics.quantiles(samples, n=4)
    return f"{middle * 1e3:.1f} ({(high - low) * 1e3:.1f})"


def table(rows) -> list[str]:
    lines = [f"|{COLUMNS}|", "|" + "---|" * len(COLUMNS.split("|"))]
    references = {row["size"]: row for row in rows if row["candidate"] == "reference"}
    for row in rows:
        base = references[row["size"]]
        cells = [row["size"], row["candidate"]]
        for which in ("forward", "forward+backward"):
            cells.append(cell(row[which]["wall_s"]))
            for clock in ("wall_s", "processor_s"):
                ratio = statistics.median(base[which][clock]) / statistics.median(row[which][clock])
                cells.append(f"{ratio:.2f}×")
        for which in ("saved_bytes", "peak_bytes"):
            cells += [f"{row[which] / 1e6:.1f}", f"{row[which] / base[which]:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(results, arguments) -> str:
    described = {**results["system"]["environment"], **vars(arguments)}
    lines = [HEAD.format(**described)]
    for allocator, result in results.items():
        settings = result["environment"]["allocator"]
        lines += [f"## Allocator: {allocator}", ""]
        if settings:
            lines += [" ".join(f"`{name}={value}`" for name, value in settings.items()), ""]
        lines += [*table(result["rows"]), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--samples", type=sample_count, default=15, help="timed runs of each candidate (at least 2)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for aggregation.json and aggregation.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    results = run_children(arguments)
    text = markdown(results, arguments)
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "aggregation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (arguments.out / "aggregation.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
