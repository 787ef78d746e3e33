"""Calibrations on disk: JSON with a checksum, one file per device, dtype, thread count and environment.

Schema history:
    1: ``schema, checksum, calibration``; the fields are those of ``witnesses.timing.calibration.Calibration``, and the
       checksum is of the calibration as sorted JSON without spaces.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from e4profile.errors import SettingError, from_table, read_document, replace_file
from e4profile.records.times import difference
from e4profile.witnesses.environment import environment, same_environment
from e4profile.witnesses.timing.calibration import Calibration
from e4profile.witnesses.timing.passes import device_named, dtype_name, fixed_threads
from e4profile.witnesses.timing.peaks import cache_folder

SCHEMA_VERSION = 1
_ANEW = "measure it anew with: e4profile calibrate"


def default_file(device: str, dtype: str, threads: int) -> Path:
    """Where the calibration of a device is kept in this environment: in the user's cache folder.

    Raises:
        SettingError: for more threads than the machine has processors.
    """
    with fixed_threads(threads):
        around = {key: value for key, value in environment().items() if key != "e4profile"}
    digest = hashlib.sha256(_canonical(around)).hexdigest()[:16]
    return _folder() / f"{device}-{dtype}-{threads}-{digest}.json"


def write_calibration(file: Path, calibration: Calibration) -> None:
    """Write a calibration, whole or not at all; a missing folder is made.

    Raises:
        SettingError: when the file cannot be written.
    """
    data = asdict(calibration)
    content = {"schema": SCHEMA_VERSION, "checksum": _checksum(data), "calibration": data}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise SettingError(
            f"cannot write the calibration {file}: {error.strerror}; name another file with --out"
        ) from error


def check_writable(file: Path) -> None:
    """Refuse a file that could not be written, before a minute is spent on it.

    Raises:
        SettingError: for a folder, or a place in which no file can be made.
    """
    if file.is_dir():
        raise SettingError(f"cannot write the calibration {file}: it is a folder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
        if not file.stat().st_size:
            file.unlink()
    except OSError as error:
        raise SettingError(
            f"cannot write the calibration {file}: {error.strerror}; name another file with --out"
        ) from error


def read_calibration(file: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        SettingError: for a file that cannot be read, is of another schema, or is damaged.
    """
    data = read_document(file, "calibration", SCHEMA_VERSION, _ANEW)
    held = data.get("calibration")
    if data.get("checksum") != _checksum(held):
        raise SettingError(f"the calibration {file} is damaged: its checksum is not that of its content; {_ANEW}")
    return from_table(held, Calibration, f"the calibration {file}: ")


def calibration_for(device: str, dtype: str, threads: int | None, file: Path | None = None) -> tuple[Calibration, str]:
    """The calibration to predict with, and whose it is where it is not of this machine as it is now; else empty.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        threads: intra-operator threads; None for those of the file, or else those that PyTorch uses.
        file: a calibration that was named; else the one of this device in this environment.

    Raises:
        SettingError: for a device that does not exist or was not calibrated, or a file of another device, dtype or
            thread count.
    """
    dtype = dtype_name(dtype)
    # the device of a file that is named need not be here
    device = device_named(device).type if file is None else device.partition(":")[0]
    if file is None:
        threads = torch.get_num_threads() if threads is None else threads
        place = default_file(device, dtype, threads)
        if not place.exists():
            raise SettingError(_not_calibrated(device, dtype, threads))
        return read_calibration(place), ""
    found = read_calibration(file)
    for option, asked, held in (
        ("--device", device, found.device), ("--dtype", dtype, found.dtype), ("--threads", threads, found.threads),
    ):  # fmt: skip
        if asked not in (held, None):
            raise SettingError(f"the calibration {file} is for {option} {held}, not {asked}: give {option} {held}")
    here = environment() | {"threads": found.threads}
    apart = difference(found.environment, here) if same_environment(found.environment, here) else ""
    name = found.environment.get("device", found.device)
    return found, f"by the calibration of another environment ({name}; {apart})" if apart else ""


def _not_calibrated(device: str, dtype: str, threads: int) -> str:
    """What is missing, what there is instead, and the remedy."""
    with fixed_threads(threads):
        here = environment()
    options = f" --device {device}" * (device != "cpu") + f" --dtype {dtype}" * (dtype != "float32")
    options += f" --threads {threads}" * (threads != torch.get_num_threads())
    others = []
    for place in sorted(_folder().glob("*.json")) if _folder().is_dir() else ():
        try:
            other = read_calibration(place)
        except SettingError:
            continue  # what cannot be read is no help here; whoever names it is told
        asked = {"device": device, "dtype": dtype, "threads": threads}
        differs = [f"{key} {getattr(other, key)}" for key, value in asked.items() if getattr(other, key) != value]
        others.append(", ".join(differs) or difference(other.environment, here))
    there = f" (there is one of {others[0]})" if others else ""
    name = here["device" if device == "cuda" else "cpu"]
    return (
        f"{name} is not calibrated in {dtype} on {threads} thread{'s' if threads != 1 else ''}{there}: run e4profile "
        f"calibrate{options}, or name a file with --calibration"
    )


def _folder() -> Path:
    return cache_folder() / "calibrations"


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _checksum(data: Any) -> str:
    return hashlib.sha256(_canonical(data)).hexdigest()
