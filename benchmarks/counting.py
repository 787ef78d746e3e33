"""How fast the counters are: ratios measured side by side in one run.

python benchmarks/counting.py [--out reports/benchmarks]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from stock_networks import IMAGE, ViT, resnet50
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from e4profile.layers import E4Conv2d
from e4profile.layers.terms import many, total, value
from e4profile.networks.cards import find_card
from e4profile.questions.formula.executions import executed
from e4profile.symbols import A_K, A_V, A, c_in, c_out, h, h_out, k, r, s, w, w_out
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.stock import count_stock
from e4profile.witnesses.environment import environment

REPEATS = 7
SETTINGS = 1_000_000


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def interleaved(*works: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[list[float]]:
    """Samples of each work, taken in turn after one warm-up each."""
    for work in works:
        work()
    samples: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for index, work in enumerate(works):
            samples[index].append(seconds(work, clock))
    return samples


def counters(name: str) -> dict[str, object]:
    card = find_card(name)
    model, image = card.build("cpu"), torch.zeros(card.input_shape())
    ours, theirs, closed = interleaved(
        lambda: count_dispatch(model, (image,)),
        lambda: count_stock("fvcore", model, (image,)),
        lambda: count_closed_form(model, card.input_shape()),
    )
    pairs = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "what": f"count {name}",
        "dispatch_median_s": statistics.median(ours),
        "fvcore_median_s": statistics.median(theirs),
        "closed_form_median_s": statistics.median(closed),
        "fvcore_over_dispatch_median": statistics.median(pairs),
        "fvcore_over_dispatch_min": min(pairs),
    }


def against_pytorch(name: str, build: Callable[[], nn.Module]) -> dict[str, object]:
    """CPU seconds of the dispatch counter and of PyTorch's own on the meta device; they must agree."""
    with torch.device("meta"):
        model, image = build(), torch.empty(IMAGE)

    def theirs() -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image)
        return int(counter.get_total_flops())

    if 2 * count_dispatch(model, (image,)).macs != theirs():
        raise SystemExit(f"the two counters disagree on {name}")
    ours, others = interleaved(lambda: count_dispatch(model, (image,)), theirs, clock=time.process_time)
    pairs = [a / b for a, b in zip(ours, others, strict=True)]
    return {
        "what": f"count {name} on the meta device, CPU seconds",
        "dispatch_median_s": statistics.median(ours),
        "pytorch_median_s": statistics.median(others),
        "dispatch_over_pytorch_median": statistics.median(pairs),
    }


def million_settings() -> dict[str, object]:
    generator = np.random.default_rng(0)
    sizes = {symbol: generator.integers(1, 64, SETTINGS) for symbol in (h, w)}
    values = {
        **sizes,
        h_out: sizes[h],
        w_out: sizes[w],
        k: generator.integers(0, 5, SETTINGS) * 2 + 1,
        s: generator.integers(1, 64, SETTINGS),
        r: generator.integers(1, 8, SETTINGS),
        A: generator.choice([1, 2, 4, 8], SETTINGS),
    }
    values[c_in] = values[c_out] = generator.integers(1, 64, SETTINGS) * values[r]
    values[A_V] = values[A_K] = values[A]
    macs = total(executed(E4Conv2d, "bank").macs)
    (samples,) = interleaved(lambda: many(macs, values))
    spot = 123_456
    one = {symbol: int(column[spot]) for symbol, column in values.items()}
    if int(many(macs, values)[spot]) != value(macs, one):
        raise SystemExit("the vectorised closed form disagrees with the exact one")
    what = f"E4 closed form, {SETTINGS:,} settings"
    return {"what": what, "median_s": statistics.median(samples), "max_s": max(samples)}


def command(what: str, *arguments: str) -> dict[str, object]:
    def run() -> None:
        subprocess.run([sys.executable, "-m", "e4profile", *arguments], check=True, capture_output=True)

    run()
    samples = [seconds(run) for _ in range(3)]
    return {"what": what, "median_s": statistics.median(samples), "max_s": max(samples)}


FIRST_ANSWERS = (
    "count e4net",
    "count e4net --counter closed-form",
    "formula e4 --of e4net",
    "match e4net --to 1M",
    "memory e4net",
)


def first_answers() -> list[dict[str, object]]:
    """Whole processes beside a bare import of torch, in turn: seconds and CPU seconds."""

    def process(*arguments: str) -> tuple[float, float]:
        before = os.times()
        took = seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True))
        after = os.times()
        return took, sum(after[2:4]) - sum(before[2:4])

    commands = [("-c", "import torch"), *(("-m", "e4profile", *one.split()) for one in FIRST_ANSWERS)]
    rounds = [[process(*command) for command in commands] for _ in range(REPEATS + 1)][1:]
    found: list[dict[str, object]] = []
    for what, samples in zip(("import torch", *FIRST_ANSWERS), zip(*rounds, strict=True), strict=True):
        one: dict[str, object] = {"what": what}
        for index, clock in enumerate(("s", "cpu_s")):
            ours, bare = [sample[index] for sample in samples], [row[0][index] for row in rounds]
            one |= {
                f"min_{clock}": min(ours),
                f"median_{clock}": statistics.median(ours),
                f"over_import_torch_min_{clock}": min(ours) / min(bare),
                f"over_import_torch_median_{clock}": statistics.median(a / b for a, b in zip(ours, bare, strict=True)),
            }
        found.append(one)
    return found


def bare_sweep() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "e4profile", "sweep", "--group", "p4", "--out", folder]
        took = seconds(lambda: subprocess.run(arguments, check=True, capture_output=True))
    return {"what": "e4profile sweep --group p4, with plots, from nothing", "median_s": took}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    results = [
        counters("p4-r18"),
        counters("p4m-r18"),
        against_pytorch("ResNet-50", resnet50),
        against_pytorch("ViT-B/16", ViT),
        million_settings(),
        command("e4profile --help", "--help"),
        *first_answers(),
        bare_sweep(),
    ]
    report = {"environment": environment(), "repeats": REPEATS, "results": results}
    text = json.dumps(report, indent=2) + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "counting.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
