"""Run a benchmark in a process of its own under a chosen allocator, so that page faults flatter nobody."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

PAGE_RETAINING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}
ALLOCATORS = {"system": {}, "page-retaining": PAGE_RETAINING}
"""glibc's settings: as it is, and never giving pages back."""


def sample_count(text: str) -> int:
    """A number of samples that have quartiles."""
    count = int(text)
    if count < 2:
        raise argparse.ArgumentTypeError(f"{text} is less than 2")
    return count


def run_under(allocator: str, command: Sequence[str], threads: int) -> bytes:
    """The standard output of ``python COMMAND...`` under one of ALLOCATORS."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    # the profiler's library writes its own progress to stderr unless told not to
    settings = {**ALLOCATORS[allocator], "OMP_NUM_THREADS": str(threads), "KINETO_LOG_LEVEL": "99"}
    run = subprocess.run([sys.executable, *command], env={**clean, **settings}, stdout=subprocess.PIPE, check=True)
    return run.stdout
