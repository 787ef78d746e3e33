"""One million settings of a network by closed form: CPU seconds of one core, peak memory, and the walks it took.

python benchmarks/many_settings.py [--card e4net] [--settings 1000000] [--out reports/benchmarks]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

CARDS = ("e4net", "p4m-e4r18")
AXES = {
    "width": range(8, 8 * 313 + 1, 8),
    "reduction": (1, 2, 4, 8),
    "slices": (1, 2, 4, 8),
    "kernel": range(1, 101, 2),
    "group": ("z2", "C2", "p4", "p4m"),
}
"""r, s and k of every width and group: all of them can be built."""
RANDOM = {"width": (1, 2049), "reduction": (1, 17), "slices": (1, 17), "kernel": (1, 32)}
"""Where r and s rarely divide the width and half the kernels are even: most are refused."""


def measured(card: str, size: int, kind: str) -> dict[str, object]:
    """What it takes in this process: imports and the settings themselves are not counted."""
    import numpy as np

    from e4profile.subjects.subject import resolve
    from e4profile.witnesses.many_settings import Choice, Column, cost_of_many

    groups = AXES["group"]
    columns: dict[str, Column]
    if kind == "grid":
        codes = np.unravel_index(np.arange(size), [len(values) for values in AXES.values()])
        columns = {
            name: Choice(tuple(values), code) if name == "group" else np.array(values)[code]
            for (name, values), code in zip(AXES.items(), codes, strict=True)
        }
    else:
        random = np.random.default_rng(0)
        columns = {name: random.integers(*bounds, size) for name, bounds in RANDOM.items()}
        columns["group"] = Choice(tuple(groups), random.integers(len(groups), size=size))
    subject = resolve(card)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = cost_of_many(subject, columns, ("params", "macs"))
    taken = time.process_time() - start
    start = time.process_time()
    cost_of_many(subject, columns)
    return {
        "card": card,
        "settings": kind,
        "size": size,
        "possible": int(found.possible.sum()),
        "walks": found.walks,
        "params_and_macs_cpu_s": round(taken, 3),
        "every_quantity_cpu_s": round(time.process_time() - start, 3),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "peak_of_imports_gib": round(before / 2**20, 3),
    }


def main() -> None:
    """Measure each card in a process of its own, on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--card", action="append")
    parser.add_argument("--settings", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("grid", "random"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.kind:
        sys.stdout.write(json.dumps(measured(given.card[0], given.settings, given.kind)) + "\n")
        return
    rows = []
    for card in given.card or CARDS:
        for kind in ("grid", "random"):
            command = [sys.executable, __file__, "--card", card, "--settings", str(given.settings), "--kind", kind]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "many_settings.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
