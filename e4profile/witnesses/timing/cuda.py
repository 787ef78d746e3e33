"""CUDA behind the event clock: events, synchronisation, cache flush; the driver's clock and energy; CUDA graphs.

Where NVML, the driver's library, is missing or does not know a quantity, the quantity is None.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from e4profile.witnesses.timing.clock import MeasurementError, Work

COUNTER_PERIOD_S = 0.1
"""NVML's energy counter moves about this often: a measurement must be much longer."""

_L2_BYTES_UNKNOWN = 256 << 20
_WARM_UPS_BEFORE_CAPTURE = 3


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
                self.missing = "without a UUID it is not known which of NVML's devices this is"
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
    properties = torch.cuda.get_device_properties(device_index)
    return Nvml(str(getattr(properties, "uuid", "")))


class CudaEvents:
    """The current stream of one CUDA device."""

    name = "torch.cuda.Event"

    def __init__(self, device: torch.device, nvml: Nvml | None = None) -> None:
        """Allocate a buffer of the size of the L2 cache."""
        self.device = device
        index = torch.cuda.current_device() if device.index is None else device.index
        self.nvml = nvml or nvml_of(index)
        size = getattr(torch.cuda.get_device_properties(index), "L2_cache_size", 0) or _L2_BYTES_UNKNOWN
        self._flushed = torch.empty(size, dtype=torch.uint8, device=device)

    def mark(self) -> Any:
        """Record an event in the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.device)

    def seconds(self, start: Any, end: Any) -> float:
        """Between two events that are done."""
        return float(start.elapsed_time(end)) * 1e-3

    def flush(self) -> None:
        """Write a buffer of the size of the L2 cache."""
        self._flushed.zero_()

    def clock_mhz(self) -> float | None:
        """The present clock of the multiprocessors."""
        return self.nvml.clock_mhz()


def energy_per_call_j(
    work: Work,
    energy_j: Callable[[], float | None],
    synchronize: Callable[[], None],
    *,
    min_run_time_s: float = 20 * COUNTER_PERIOD_S,
    now: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Joules of one call, preparation included, averaged over many; None where nothing counts them.

    The device's idle power is part of it, as it is of a training.

    Args:
        work: warmed up.
        energy_j: reads a counter in joules that only grows; None where there is none.
        synchronize: waits for the device.
        min_run_time_s: call again and again for at least this long.
        now: wall time in seconds.

    Raises:
        MeasurementError: when the counter did not move.
    """
    synchronize()
    before_j = energy_j()
    if before_j is None:
        return None
    start, calls = now(), 0
    while now() - start < min_run_time_s:
        work.call(work.prepare())
        synchronize()
        calls += 1
    after_j = energy_j()
    if after_j is None:
        return None
    if not after_j > before_j:
        raise MeasurementError(f"the energy counter did not move during {calls} calls: measure for longer")
    return (after_j - before_j) / calls


@contextmanager
def _empty_allowed() -> Iterator[None]:
    """A forward pass or a whole step has no preparation: torch would warn that its graph is empty."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The CUDA Graph is empty")
        yield


def graphed(work: Work, device: torch.device) -> Work:
    """The same work as CUDA graphs, replayed: the host's launches leave the time.

    Preparation and call are captured apart, in one memory pool, so that backward alone can be timed.

    Raises:
        MeasurementError: when the work cannot be captured, for example because it synchronises.
    """
    # a stream of this device: torch captures on the stream that it made for the first device it was asked about
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    preparation, call = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    kept: dict[str, Any] = {}
    try:
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS_BEFORE_CAPTURE):
                work.call(work.prepare())
        torch.cuda.current_stream(device).wait_stream(side)
        with _empty_allowed(), torch.cuda.graph(preparation, stream=side):
            kept["state"] = work.prepare()
        with torch.cuda.graph(call, pool=preparation.pool(), stream=side):
            kept["result"] = work.call(kept["state"])
    except RuntimeError as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise MeasurementError(f"this network cannot be captured as a CUDA graph: {first_line}") from error

    # the captured tensors live in the graphs' pool: they are kept as long as the work is
    def replay(_: Any, kept: dict[str, Any] = kept) -> None:
        del kept
        call.replay()

    prepare: Callable[[], Any] = preparation.replay
    return Work(replay, prepare)
