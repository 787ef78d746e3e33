"""Records of one device: everything that only a CUDA device can say, most valuable first, each step saved as it ends.

    python scripts/gpu_records.py [--device cuda] [--minutes 8] [--out reports/gpu] [--wheels .whl] [--quick]

``make gpu`` calls it. It needs no network: a machine with a CUDA build of PyTorch, pandas, matplotlib, sympy and typer
is enough, and what else is missing is installed from the folder of wheels (``make gpu-wheels`` fills it where there is
a network) into a folder that is removed afterwards. A step that fails or outlasts its limit costs no other step its
turn; the steps that the minutes do not reach are named. ``steps.json`` says what each took, ``log.txt`` what it said.

``--device cpu --quick`` is the dry run: the same steps on small networks, for a machine without a device.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("r18", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18", "e4net", "e4net-large")
"""The five networks of Table 4 and both E4-Nets."""
PYTEST = "-m pytest -q -p no:cacheprovider -o addopts= -W ignore"
NO_TESTS = 5
"""Pytest's exit code where no test applies: in a dry run every module of a device's tests is skipped."""


@dataclass(frozen=True)
class Step:
    """One command of Python, the seconds that it may take, and the file that its stdout goes to, if any."""

    name: str
    limit_s: int
    arguments: str
    output: str | None = None

    def command(self, folder: Path) -> list[str]:
        """What runs."""
        return [sys.executable, *(part.replace("{to}", str(folder)) for part in self.arguments.split())]


@dataclass(frozen=True)
class Outcome:
    """What became of a step: its exit code, None where it ran out of time or had no turn."""

    name: str
    code: int | None
    seconds: float
    remark: str = ""


def steps(device: str, *, quick: bool) -> list[Step]:
    """The steps in the order of their value; ``{to}`` in their arguments is the device's folder."""
    # one thread, as the records that are committed have
    where = f"--device {device} --threads 1"
    networks = "z2cnn" if quick else " ".join(NETWORKS)
    last = networks.split()[-2:]
    sizes, batch, seconds, small = ("2", 2, 0.05, "--quick") if quick else ("1,32,128,512", 128, 1, "")
    times = f"-m e4profile time {networks} {where} --mixed --out {{to}}/times.jsonl --max-run-time-s {seconds}"
    brief = "--quick" if quick else "--max-run-time-s 40"
    briefly = f"--max-run-time-s {seconds}" if quick else ""
    one_epoch = f"--recipe epochs=1,batch_size={batch},training_images={batch}"
    found = [
        Step("versions", 20, "-m e4profile --version"),
        Step("tests that need a device", 100, f"{PYTEST} -m gpu {'tests/witnesses/timing' if quick else 'tests'}"),
        Step("Triton's kernels", 60, f"{PYTEST} tests/ops/test_triton.py"),
        Step("operators", 60, f"benchmarks/gpu_operators.py --device {device} {small} --out {{to}}/operators.json"),
        Step("irrep basis", 100, f"benchmarks/gpu_irreps.py --device {device} {small} --out {{to}}/irreps.json"),
        Step("memory", 80, f"benchmarks/gpu_memory.py --device {device} --out {{to}}/.. --peaks {{to}}/peaks.json"),
        Step("times in float32", 110, f"{times} --batch-size {sizes} --pass forward,backward,step --dtype float32"),
        Step("times in bfloat16", 110, f"{times} --batch-size {sizes} --pass forward,backward,step --dtype bfloat16"),
        Step("times of CUDA graphs", 30, f"{times} --batch-size 1 --cuda-graphs"),
        Step("calibration", 80, f"-m e4profile calibrate {where} {brief} --out {{to}}/calibration.json"),
        Step(
            "predicted times", 30,
            f"-m e4profile time {networks} --device {device} --batch-size {sizes} --predicted "
            "--calibration {to}/calibration.json -f json", "predicted.json",
        ),
        *(
            Step(
                f"roofline of {network}", 30,
                f"-m e4profile time {network} --roofline {where} --batch-size {batch} {briefly} "
                "--out {to}/roof.jsonl",
            )
            for network in last
        ),
        Step("breakdown", 30, f"-m e4profile time {last[-1]} {where} --batch-size {batch} {briefly} --breakdown"),
        Step("energy", 40, f"-m e4profile training {last[-1]} {where} {one_epoch} -f json", "energy.json"),
    ]  # fmt: skip
    return [step for step in found if device == "cuda" or "--cuda-graphs" not in step.arguments]


def run(step: Step, left_s: float, folder: Path, environment: dict[str, str]) -> Outcome:
    """Run one step and add what it says to the log."""
    limit_s = min(step.limit_s, left_s)
    if left_s < min(10, step.limit_s):
        return Outcome(step.name, None, 0.0, f"not run: {left_s:.0f} s were left")
    started = time.monotonic()
    with ExitStack() as files:
        log = files.enter_context((folder / "log.txt").open("a"))
        print(f"\n=== {step.name}", file=log, flush=True)
        target = files.enter_context((folder / step.output).open("w")) if step.output else log
        try:
            code: int | None = subprocess.run(
                step.command(folder), cwd=ROOT, env=environment, stdout=target, stderr=log,
                stdin=subprocess.DEVNULL, timeout=limit_s, check=False,
            ).returncode  # fmt: skip
            remark = {0: "", NO_TESTS: "no test applies here"}.get(code, f"exit code {code}")
        except subprocess.TimeoutExpired:
            code, remark = None, f"stopped after {limit_s:.0f} s"
    return Outcome(step.name, code, round(time.monotonic() - started, 1), remark)


def install(wheels: Path, target: Path) -> None:
    """Unpack the wheels that fit this Python into a folder; one that this Python has already is put before it."""
    names = sorted({re.split(r"-\d", wheel.name)[0] for wheel in wheels.glob("*.whl")})
    options = ("--no-index", "--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check")
    places = ("--find-links", str(wheels), "--target", str(target))
    pip = [sys.executable, "-m", "pip", "install", *options, *places]
    if names and subprocess.run([*pip, *names], check=False).returncode:
        # one that does not fit this Python must not keep the others away
        for name in names:
            subprocess.run([*pip, name], check=False)


def device_folder(device: str, environment: dict[str, str]) -> str:
    """The device's name as a folder, asked in a process of its own, as all that touches the device."""
    if device != "cuda":
        return f"{device}-dry-run"
    asked = "import torch; print(torch.cuda.get_device_name())"
    found = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"no CUDA device here: {found.stderr.strip().splitlines()[-1]}")
    return re.sub(r"[^a-z0-9]+", "-", found.stdout.strip().lower())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; 0 where all of them did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "gpu")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".whl")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        install(asked.wheels, Path(scratch))
        path = os.pathsep.join([scratch, str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "140"}
        folder = asked.out.resolve() / device_folder(asked.device, environment)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("")
        outcomes: list[Outcome] = []
        for step in steps(asked.device, quick=asked.quick):
            left_s = 60 * asked.minutes - (time.monotonic() - started)
            outcomes.append(run(step, left_s, folder, environment))
            (folder / "steps.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
            print(f"{outcomes[-1].seconds:7.1f} s  {step.name}  {outcomes[-1].remark or 'done'}", flush=True)
    print(f"records: {folder}")
    fine = (0, NO_TESTS) if asked.quick else (0,)
    return int(any(one.code not in fine for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
