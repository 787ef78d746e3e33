"""The driver's own view of a GPU: its present clock and the energy it has used.

NVML comes with the driver; it is called directly, so that no further package is needed. Where it is missing
or does not know a quantity, the quantity is None.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_SM_CLOCK = 1
_SUCCESS = 0


class Nvml:
    """One GPU, found by its UUID, or as the only one where PyTorch does not tell the UUID (before 2.5).

    Attributes:
        missing: why nothing can be read, or None.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:
        """Find the device; ``library`` stands in for NVML in tests."""
        self.missing: str | None = None
        self._handle = ctypes.c_void_p()
        self._library = library
        try:
            self._library = library or ctypes.CDLL(_library_name())
        except OSError:
            self.missing = "the driver's NVML library is not found"
            return
        if self._library.nvmlInit_v2() != _SUCCESS:
            self.missing = "NVML does not start"
        elif not (self._is_found(uuid) if uuid else self._is_only_one()):
            self.missing = "NVML does not know this device" if uuid else "which of NVML's devices this is, is not told"

    def _is_found(self, uuid: str) -> bool:
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        code: int = self._library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle))
        return code == _SUCCESS

    def _is_only_one(self) -> bool:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS or count.value != 1:
            return False
        code: int = self._library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._handle))
        return code == _SUCCESS

    def clock_mhz(self) -> float | None:
        """The present clock of the multiprocessors in MHz."""
        value = ctypes.c_uint()
        if self.missing:
            return None
        code = self._library.nvmlDeviceGetClockInfo(self._handle, _SM_CLOCK, ctypes.byref(value))
        return float(value.value) if code == _SUCCESS else None

    def energy_j(self) -> float | None:
        """Energy in joules since the driver was loaded; the difference of two readings is what was used."""
        millijoules = ctypes.c_ulonglong()
        if self.missing:
            return None
        code = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(millijoules))
        return millijoules.value / 1000 if code == _SUCCESS else None


def _library_name() -> str:
    return "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"


def nvml_of(device_index: int) -> Nvml:
    """NVML's view of a CUDA device of this process."""
    import torch

    properties = torch.cuda.get_device_properties(device_index)
    return Nvml(str(getattr(properties, "uuid", "")))
