"""Where a number was measured: everything that may change a timing, nothing that names a person or a host."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The toolkit's own version is left out: comparing two of its versions on one machine is what timings are for.
_NOT_FOR_TIMING = frozenset({"e4profile"})
_DECISIVE = ("device", "torch", "cuda", "threads", "default_dtype", "system", "machine", "python")
_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING")
_ALLOCATOR_LIBRARIES = ("jemalloc", "tcmalloc", "mimalloc")
_PATH = re.compile(r"(?:\b[A-Za-z]:)?[\\/~][^\s,;:]*")


def environment() -> dict[str, object]:
    """The software, the device and the settings that a measurement depends on, as JSON values.

    Keys: ``e4profile, python, torch, system, machine, cpu, cpu_capability, cpu_count, threads,
    interop_threads, device, default_dtype, allocator``; with a CUDA device also ``device_multiprocessors,
    device_memory_bytes, cuda, driver, cudnn, cudnn_enabled, cudnn_benchmark, cudnn_deterministic,
    tf32_matmul, tf32_cudnn``. ``cpu_count`` counts the CPUs this process may use. No host name, user name or
    path; a path in an allocator variable reads ``<path>``.
    """
    import torch

    cpu = _cpu_model()
    found: dict[str, object] = {
        "e4profile": own_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": _usable_cpus(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "device": cpu,
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "allocator": _allocator(os.environ),
    }
    if torch.cuda.is_available():
        found |= _cuda()
    return found


def described(environment: Mapping[str, object]) -> str:
    """An environment in one sentence, with what decides a timing."""
    known = [f"{key.replace('_', ' ')} {environment[key]}" for key in _DECISIVE if environment.get(key)]
    return f"measured with {', '.join(known)}" if known else "measured in an unknown environment"


def same_environment(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The keys, sorted, in which two environments differ and that matter for timing; empty when none does.

    A key that only one of them has differs. The version of this package does not count.
    """
    missing = object()
    return sorted(key for key in (set(a) | set(b)) - _NOT_FOR_TIMING if a.get(key, missing) != b.get(key, missing))


def _cuda() -> dict[str, object]:
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "device": properties.name,
        "device_multiprocessors": properties.multi_processor_count,
        "device_memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "driver": _driver_version(Path("/proc/driver/nvidia/version")),
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        **_tf32(),
    }


def _tf32() -> dict[str, object]:
    """Whether float32 matrix products and convolutions may run in TF32."""
    import torch

    backends = torch.backends
    matmul, convolution = backends.cuda.matmul, getattr(backends.cudnn, "conv", None)
    if not hasattr(matmul, "fp32_precision") or convolution is None:
        return {"tf32_matmul": matmul.allow_tf32, "tf32_cudnn": backends.cudnn.allow_tf32}
    # Where both interfaces exist, reading the older one raises once a program has set the newer one.
    return {"tf32_matmul": matmul.fp32_precision == "tf32", "tf32_cudnn": convolution.fp32_precision == "tf32"}


def _driver_version(file: Path) -> str | None:
    """The NVIDIA driver's version, or None where the kernel does not tell it."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return match[1] if match else None


def _cpu_model(file: Path = Path("/proc/cpuinfo")) -> str:
    """The model as the kernel names it; elsewhere what Python knows, or the architecture."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _usable_cpus() -> int:
    """CPUs that this process may run on: a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _allocator(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables that change how memory is allocated, without paths, and a preloaded allocator by name."""
    found = {
        name: _PATH.sub("<path>", value)
        for name, value in sorted(variables.items())
        if name in _ALLOCATOR_VARIABLES or name.startswith("MALLOC_")
    }
    preloaded = [name for name in _ALLOCATOR_LIBRARIES if name in variables.get("LD_PRELOAD", "")]
    if preloaded:
        found["preloaded"] = ", ".join(preloaded)
    return found


@cache
def own_version() -> str:
    """The installed version; "unknown" for a copy that runs where it lies, as on a machine that installs nothing."""
    try:
        return version("e4profile")
    except PackageNotFoundError:
        return "unknown"
