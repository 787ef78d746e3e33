"""How well times are predicted: networks that the calibration never saw, timed on this machine.

python benchmarks/predicted_time.py [--seconds 60] [--out reports/benchmarks]

Run it on a quiet machine; it takes about two minutes. Two errors are stated: of settings that the fit did not see, of
topologies that it did; and of topologies that it did not see, each predicted by a fit of all others. The goals are 10%
and 20% on average, and a rank correlation of 0.95.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.calibration import FitError, Observed, fit, fit_error, left_out, observe
from e4profile.witnesses.timing.passes import fixed_threads
from e4profile.witnesses.timing.rates import Rate, predicted_s
from e4profile.witnesses.timing.references import REFERENCES, Reference

DIGIT, PICTURE = (1, 28, 28), (3, 32, 32)
UNSEEN = (
    Reference("p4_cnn", DIGIT, 1, {"group": "p4", "width": 12}),
    Reference("p4_cnn", DIGIT, 3, {"group": "p4m", "width": 14}),
    Reference("p4_cnn", DIGIT, 16, {"group": "p1", "width": 30}),
    Reference("rot_mnist", DIGIT, 1, {"group": "p4", "width": 28, "reduction": 2, "kernel": 5}),
    Reference("rot_mnist", DIGIT, 2, {"group": "p4m", "width": 8, "reduction": 1, "kernel": 7}),
    Reference("rot_mnist", DIGIT, 8, {"group": "p4", "width": 12, "reduction": 3, "kernel": 3}),
    Reference("rot_mnist", DIGIT, 2, {"group": "p4", "width": 20, "kernel": 3, "layer": "group"}),
    Reference("separable_mnist", DIGIT, 1, {"group": "p4", "width": 12, "kind": "g"}),
    Reference("separable_mnist", DIGIT, 4, {"group": "p4m", "width": 12, "kind": "gc"}),
    Reference("separable_cifar", PICTURE, 2, {"group": "p4", "widths": (6, 12, 24), "kind": "gc", "depth": 3}),
    Reference("basic_resnet", PICTURE, 1, {"group": "p4", "width": 16}),
    Reference("basic_resnet", PICTURE, 4, {"group": "p4m", "width": 6}),
    Reference("basic_resnet", PICTURE, 4, {"group": "p1", "width": 24}),
    Reference("basic_resnet", PICTURE, 1, {"group": "p4", "width": 16, "layer": "e4", "reduction": 2}),
    Reference("basic_resnet", PICTURE, 2, {"group": "p4m", "width": 6, "layer": "e4", "reduction": 1}),
    Reference("steerable_resnet", (3, 96, 96), 1, {"group": "C4", "width": 6}),
    Reference("basic_cnn", DIGIT, 2, {"width": 24}),
    Reference("implicit_vgg", PICTURE, 1, {"width": 24}),
    Reference("implicit_resnet18", PICTURE, 1, {"width": 24}),
    Reference("alpha_p4_cnn", DIGIT, 1, {"width": 6}),
)
"""Settings that ``REFERENCES`` has not."""


def compared(rates: dict[str, Rate], networks: list[Observed]) -> tuple[list[dict[str, object]], FitError]:
    """Predicted and measured time of each network, and how far off the predictions are."""
    predicted = np.array([predicted_s(rates, one.whole.work) for one in networks])
    measured = np.array([one.whole.seconds for one in networks])
    rows = [
        {"what": one.name, "predicted_s": float(p), "measured_s": float(m), "off_percent": float(100 * (p - m) / m)}
        for one, p, m in zip(networks, predicted, measured, strict=True)
    ]
    return rows, fit_error(predicted, measured)


def main() -> None:
    """Calibrate, time what was not seen, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    where, load = torch.device("cpu"), os.getloadavg()
    with fixed_threads(1):
        # in the same rounds, so that a drift of the machine is no error of the prediction
        observed, rounds, clock = observe((*REFERENCES, *UNSEEN), where, "float32", 1, arguments.seconds)
        seen, unseen = observed[: len(REFERENCES)], observed[len(REFERENCES) :]
        here = environment()
    rates = fit(seen)
    rows, settings = compared(rates, unseen)
    topologies = left_out(seen, [one.topology for one in seen], rates)
    for row in rows:
        print(f"{row['off_percent']:+6.0f}%  {1e3 * row['measured_s']:8.2f} ms  {row['what']}")  # type: ignore[operator]
    for what, error, goal in (("settings", settings, 10), ("topologies", topologies, 20)):
        print(
            f"unseen {what}: {error.mean_percent:.1f}% on average (goal {goal}%), {error.largest_percent:.0f}% at "
            f"most, rank correlation {error.rank_correlation:.3f}, {error.networks} networks"
        )
    print(f"{rounds} rounds, {clock}, load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after")
    if arguments.out is not None:
        summary = [
            {"what": f"unseen {what}", "mean_percent": error.mean_percent, "largest_percent": error.largest_percent,
             "rank_correlation": error.rank_correlation, "networks": error.networks}
            for what, error in (("settings", settings), ("topologies", topologies))
        ]  # fmt: skip
        content = {"environment": here, "load": load, "rounds": rounds, "results": [*summary, *rows]}
        (arguments.out / "predicted-time.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
