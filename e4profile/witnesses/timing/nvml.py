"""The driver's own view of a GPU: its present clock and the energy it has used.

Where NVML, the driver's library, is missing or does not know a quantity, the quantity is None.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


class Nvml:
    """One GPU, found by its UUID, or as the only one where PyTorch does not tell the UUID (before 2.5).

    Attributes:
        missing: why nothing can be read, or None.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:
        """Find the device; ``library`` stands in for ``pynvml`` in tests."""
        self.missing: str | None = None
        try:
            self._nvml = library or import_module("pynvml")
        except ImportError:
            self.missing = "the package nvidia-ml-py is not installed"
            return
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self.missing = f"NVML does not start: {error}"
            return
        try:
            if not uuid and self._nvml.nvmlDeviceGetCount() != 1:
                self.missing = "which of NVML's devices this is, is not told"
            elif not uuid:
                self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0)
            else:
                name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
                self._handle = self._nvml.nvmlDeviceGetHandleByUUID(name)
        except self._nvml.NVMLError as error:
            self.missing = f"NVML does not know this device: {error}"

    def clock_mhz(self) -> float | None:
        """The present clock of the multiprocessors in MHz."""
        return self._asked(lambda nvml: float(nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM)))

    def energy_j(self) -> float | None:
        """Energy in joules since the driver was loaded; the difference of two readings is what was used."""
        return self._asked(lambda nvml: float(nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000))

    def _asked(self, question: Callable[[Any], float]) -> float | None:
        if self.missing:
            return None
        try:
            return question(self._nvml)
        except self._nvml.NVMLError:
            return None


def nvml_of(device_index: int) -> Nvml:
    """NVML's view of a CUDA device of this process."""
    import torch

    properties = torch.cuda.get_device_properties(device_index)
    return Nvml(str(getattr(properties, "uuid", "")))
