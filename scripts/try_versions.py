"""Try this package with other versions of Python and torch, each in a fresh environment, and print a table.

    python scripts/try_versions.py [--python 3.10 3.12] [--torch 2.13.0 2.4.1] [--cuda] [--keep FOLDER]

For each pair: make an environment, install torch and the package, and run the main job in an empty folder outside the
checkout (a count, a check, a sweep, a table). A torch that brings CUDA libraries is gigabytes: it is not installed
unless --cuda says so. Then only what needs no torch is tried: every file compiles, the program starts, the cards load.
Interpreters are looked for on PATH and among those of pyenv. Exit code 1 when something that was tried fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

MAIN_JOB = (
    ("--version",),
    ("count", "e4net", "--format", "csv"),
    ("check", "e4net", "z2cnn", "p4cnn"),
    ("sweep", "--group", "p4", "-r", "1", "-s", "2", "-k", "5", "--no-plots"),
    ("published", "1"),
    ("equivariance", "e4net", "--set", "squeeze_affine=field"),
)
"""What a user does first; each command exits with an error where a figure is wrong."""


WITHOUT_TORCH = (("--help",), ("count", "--help"), ("cards",), ("cards", "e4net"), ("guard", "--help"))
"""What runs where torch is not installed."""

_NEED_TORCH = ("torch", "fvcore", "thop")
_REQUIREMENTS = "import json, importlib.metadata as m; print(json.dumps(m.requires('e4profile')))"


class Failed(Exception):
    """A step of a trial: which, and the end of what it printed."""


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    python: str
    torch: str
    verdict: str
    detail: str

    def __str__(self) -> str:
        return f"| {self.python} | {self.torch} | {self.verdict} | {self.detail} |"


def pinned_torch() -> str:
    """The torch of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2].strip() for line in lines if line.startswith("torch=="))


def interpreter(version: str) -> Path | None:
    """A Python of that version that starts."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*sorted(pyenv.glob(f"versions/{version}.*/bin/{name}")), shutil.which(name)]
    for one in found:
        if one and subprocess.run([one, "--version"], capture_output=True, check=False).returncode == 0:
            return Path(one)
    return None


def run(words: Sequence[str | Path], what: str, folder: Path, timeout_s: float = 1800) -> str:
    """The output of a step.

    Raises:
        Failed: with the last line that it printed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(
            [str(word) for word in words], cwd=folder, env={**environment, "NO_COLOR": "1"}, capture_output=True,
            text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: not done after {timeout_s:.0f} s") from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Failed(f"{what}: exit code {done.returncode}: {said[-1] if said else 'nothing printed'}")
    return done.stdout


def brings_cuda(pip: Sequence[str | Path], requirement: str, folder: Path) -> bool:
    """Whether installing it would bring CUDA libraries, by the resolver's own dry run.

    Raises:
        Failed: where no such version can be installed.
    """
    report = run([*pip, "--dry-run", "--report", "-", requirement], f"resolving {requirement}", folder)
    names = [one["metadata"]["name"].lower() for one in json.loads(report)["install"]]
    return any(name.startswith("nvidia-") or name == "cuda-toolkit" for name in names)


def without_torch(binaries: Path, pip: Sequence[str | Path], folder: Path) -> None:
    """Install everything but torch and what needs it, and run what runs then.

    Raises:
        Failed: where that does not work.
    """
    run([*pip, "--no-deps", str(ROOT)], "install", folder)
    needed = json.loads(run([binaries / "python", "-c", _REQUIREMENTS], "requirements", folder))
    others = [one for one in needed if "extra ==" not in one and not one.startswith(_NEED_TORCH)]
    run([*pip, *others], "install", folder)
    package = next((folder / "venv").glob("**/site-packages/e4profile"))
    run([binaries / "python", "-W", "error", "-m", "compileall", "-q", "-f", package], "compile", folder)
    for arguments in WITHOUT_TORCH:
        run([binaries / "e4profile", *arguments], f"e4profile {' '.join(arguments)}", folder)


def attempt(python: str, torch: str, folder: Path, *, cuda: bool) -> Outcome:
    """Install and run the main job."""
    found = interpreter(python)
    if found is None:
        return Outcome(python, torch, "not tried", "no such interpreter here")
    begun = time.monotonic()
    try:
        run([found, "-m", "venv", folder / "venv"], "venv", folder)
        binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        pip: list[str | Path] = [binaries / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        requirement = f"torch=={torch}"
        if not cuda and brings_cuda(pip, requirement, folder):
            without_torch(binaries, pip, folder)
            return Outcome(python, torch, "not tried", "its wheel brings CUDA; what needs no torch works")
        run([*pip, requirement, str(ROOT)], "install", folder)
        exact = run([binaries / "python", "-c", "import platform; print(platform.python_version())"], "python", folder)
        for arguments in MAIN_JOB:
            run([binaries / "e4profile", *arguments], f"e4profile {' '.join(arguments)}", folder)
    except Failed as error:
        return Outcome(python, torch, "FAILED", str(error).replace("|", "\\|"))
    return Outcome(exact.strip(), torch, "works", f"{len(MAIN_JOB)} commands, {time.monotonic() - begun:.0f} s")


def main() -> None:
    """Try every pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="versions such as 3.12")
    parser.add_argument("--torch", nargs="+", default=[pinned_torch()], help="versions such as 2.4.1")
    parser.add_argument("--cuda", action="store_true", help="install CUDA libraries where torch asks for them")
    parser.add_argument("--keep", type=Path, help="keep the environments below this folder")
    chosen = parser.parse_args()
    outcomes = []
    for torch in chosen.torch:
        for python in chosen.python:
            sys.stderr.write(f"Python {python}, torch {torch}\n")
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                if chosen.keep:
                    folder = (chosen.keep / f"python{python}-torch{torch}").resolve()
                    folder.mkdir(parents=True)
                outcomes.append(attempt(python, torch, folder, cuda=chosen.cuda))
    sys.stdout.write("| Python | torch | verdict | detail |\n|---|---|---|---|\n")
    sys.stdout.write("".join(f"{outcome}\n" for outcome in outcomes))
    sys.exit(any(outcome.verdict == "FAILED" for outcome in outcomes))


if __name__ == "__main__":
    main()
