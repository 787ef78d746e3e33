"""A device's measured peaks: arithmetic from a matrix product, bandwidth from a copy. Williams et al. 2009.

They are kept between runs in the user's cache folder, if it can be written.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from e4profile.errors import positive, replace_file
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.clock import Clock, Work
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import device_named, dtype_name, dtype_named, fixed_threads
from e4profile.witnesses.timing.samples import StopRule, collect

SCHEMA_VERSION = 1
PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}
COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
_RULE = StopRule(relative_noise=0.02, min_run_time_s=0.3, max_run_time_s=3.0)


@dataclass(frozen=True)
class Peaks:
    """What a device was seen to reach.

    Attributes:
        macs_per_s: in the fastest square matrix product.
        bytes_per_s: in the fastest copy, reads and writes added; a cache line fetched only to be overwritten
            is not counted.
        device: ``cpu`` or ``cuda``.
        dtype: of both.
        threads: intra-operator threads.
        environment: where it was measured.
        notes: what a reader should know, for example that nothing could be cached.
    """

    macs_per_s: float
    bytes_per_s: float
    device: str
    dtype: str
    threads: int
    environment: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def ridge(self) -> float:
        """The arithmetic intensity, in MACs per byte, above which arithmetic is the bound."""
        return self.macs_per_s / self.bytes_per_s


def measure_peaks(
    device: str = "cpu",
    dtype: str = "float32",
    *,
    threads: int | None = 1,
    product_size: int | None = None,
    copy_bytes: int | None = None,
    clock: Clock | None = None,
    rule: StopRule = _RULE,
) -> Peaks:
    """Measure both peaks; the fastest sample counts, because a peak is what was reached.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of the matrices and of the copied elements.
        threads: intra-operator threads; None keeps what is set.
        product_size: n of the n x n matrices.
        copy_bytes: of the copied tensor: several times the last-level cache.
        clock: instead of the device's own.
        rule: when to stop sampling.

    Raises:
        SettingError: for a device or a size that does not exist.
        MeasurementError: when nothing could be measured.
    """
    where, kind = device_named(device), dtype_named(dtype)
    size = PRODUCT_SIZE[where.type] if product_size is None else product_size
    copied = COPY_BYTES[where.type] if copy_bytes is None else copy_bytes
    positive(product_size=size, copy_bytes=copied)
    with fixed_threads(threads) as used, torch.no_grad():
        clock = clock or clock_for(where)
        square = torch.ones((size, size), device=where, dtype=kind)
        product = torch.empty_like(square)
        multiply = collect([Work(lambda _: torch.mm(square, square, out=product))], clock, rule)[0]
        elements = -(-copied // kind.itemsize)
        source = torch.ones(elements, device=where, dtype=kind)
        target = torch.zeros_like(source)
        copy = collect([Work(lambda _: target.copy_(source))], clock, rule)[0]
        return Peaks(
            macs_per_s=size**3 / min(multiply.seconds),
            bytes_per_s=2 * elements * kind.itemsize / min(copy.seconds),
            device=where.type,
            dtype=dtype_name(kind),
            threads=used,
            environment=environment(),
        )


def cached_peaks(
    device: str = "cpu",
    dtype: str = "float32",
    *,
    threads: int | None = 1,
    refresh: bool = False,
    folder: Path | None = None,
    **measuring: Any,
) -> Peaks:
    """The peaks from the user's cache, or measured and put there.

    One file per device, dtype, thread count and environment. A folder that cannot be written is no error:
    the peaks carry a note that they were not cached.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of the matrices and of the copied elements.
        threads: intra-operator threads; None keeps what is set.
        refresh: measure even when there is a cached value.
        folder: instead of the user's cache folder.
        **measuring: further arguments of ``measure_peaks``.

    Raises:
        SettingError: as ``measure_peaks``.
    """
    where, kind = device_named(device), dtype_name(dtype)
    with fixed_threads(threads) as used:
        here = environment()
    # this package's own version changes no peak
    around = {name: value for name, value in here.items() if name != "e4profile"}
    key = {"device": where.type, "dtype": kind, "threads": used, "environment": around}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = (folder or cache_folder()) / "peaks" / f"{where.type}-{kind}-{used}-{digest}.json"
    found, note = (None, "") if refresh else read_json(path)
    if found is not None and found.get("schema") == SCHEMA_VERSION and found.get("key") == key and _usable(found):
        return Peaks(found["macs_per_s"], found["bytes_per_s"], where.type, kind, used, here)
    peaks = measure_peaks(device, kind, threads=threads, **measuring)
    written = write_json(
        path, {"schema": SCHEMA_VERSION, "key": key, "macs_per_s": peaks.macs_per_s, "bytes_per_s": peaks.bytes_per_s}
    )
    notes = tuple(text for text in (note, written) if text)
    return Peaks(peaks.macs_per_s, peaks.bytes_per_s, where.type, kind, used, here, notes)


def _usable(found: Mapping[str, Any]) -> bool:
    values = (found.get("macs_per_s"), found.get("bytes_per_s"))
    return all(isinstance(value, float) and value > 0 for value in values)


def cache_folder(variables: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """``$XDG_CACHE_HOME``, or the platform's own place for caches, with ``e4profile`` below.

    A relative ``XDG_CACHE_HOME`` is ignored, as the XDG base directory specification asks.
    """
    variables = os.environ if variables is None else variables
    named = variables.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named) / "e4profile"
    if platform == "win32":
        local = variables.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "e4profile" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "e4profile"
    return Path.home() / ".cache" / "e4profile"


def read_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The object in a file and an empty note; None with a note where there is none that can be used."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return (None, f"the cached file {path.name} cannot be used ({type(error).__name__}): measuring again")
    if not isinstance(found, dict):
        return None, f"the cached file {path.name} holds no JSON object: measuring again"
    return found, ""


def write_json(path: Path, values: Mapping[str, Any]) -> str:
    """Write an object, whole or not at all; a note where the folder cannot be written, otherwise empty."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(values, indent=1, sort_keys=True).encode())
    except OSError as error:
        return f"not cached: {path.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder"
    return ""
