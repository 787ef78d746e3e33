"""CUDA behind the event clock: events, synchronisation, cache flush, the driver's clock; and CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.nvml import Nvml, nvml_of

_L2_BYTES_UNKNOWN = 256 << 20
_WARM_UPS_BEFORE_CAPTURE = 3


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


@contextmanager
def _empty_allowed() -> Iterator[None]:
    """A forward pass or a whole step has no preparation: torch would warn that its graph is empty."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The CUDA Graph is empty")
        yield


def graphed(work: Work) -> Work:
    """The same work as CUDA graphs, replayed: the host's launches leave the time.

    Preparation and call are captured apart, in one memory pool, so that backward alone can be timed.

    Raises:
        MeasurementError: when the work cannot be captured, for example because it synchronises.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS_BEFORE_CAPTURE):
                work.call(work.prepare())
        torch.cuda.current_stream().wait_stream(side)
        preparation, call = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        kept: dict[str, Any] = {}
        with _empty_allowed(), torch.cuda.graph(preparation):
            kept["state"] = work.prepare()
        with torch.cuda.graph(call, pool=preparation.pool()):
            kept["result"] = work.call(kept["state"])
    except RuntimeError as error:
        first_line = str(error).splitlines()[0]
        raise MeasurementError(f"this network cannot be captured as a CUDA graph: {first_line}") from error

    # the captured tensors live in the graphs' pool: they are kept as long as the work is
    def replay(_: Any, kept: dict[str, Any] = kept) -> None:
        del kept
        call.replay()

    prepare: Callable[[], Any] = preparation.replay
    return Work(replay, prepare)
