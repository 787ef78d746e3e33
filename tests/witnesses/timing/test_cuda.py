"""The CUDA clock: its own logic against a stand-in for ``torch.cuda``, and the real one where there is a GPU."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from e4profile.networks.cards import find_card
from e4profile.questions.time.roofline import measure_roofline
from e4profile.questions.training.training import Recipe, measure_budget
from e4profile.witnesses.timing.breakdown import measure_breakdown
from e4profile.witnesses.timing.clock import EventClock, MeasurementError, Work
from e4profile.witnesses.timing.cuda import CudaEvents, graphed
from e4profile.witnesses.timing.measure import measure_time
from e4profile.witnesses.timing.passes import PassSetting
from e4profile.witnesses.timing.peaks import measure_peaks
from e4profile.witnesses.timing.samples import StopRule

SMALL = find_card("e4net").with_arguments({"width": 2})
DEVICE = torch.device("cuda:1")
QUICK = StopRule(min_run_time_s=0.0, max_run_time_s=1.0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class _Stream:
    def __init__(self, log, device=None):
        self.log, self.device = log, device

    def wait_stream(self, other):
        self.log.append("wait")


class _Cuda:
    """As much of ``torch.cuda`` as the clock uses; replaying a graph repeats what was captured."""

    def __init__(self):
        self.log: list[str] = []
        self.time_ms = 0.0
        self.captured: list[str] | None = None
        self.refuse = False

    def install(self, monkeypatch):
        current = _Stream(self.log)
        replacements = {
            "current_device": lambda: 0,
            "current_stream": lambda device=None: current,
            "synchronize": lambda device=None: self.log.append("synchronize"),
            "get_device_properties": lambda index: SimpleNamespace(L2_cache_size=4096, uuid="abc"),
            "Event": lambda enable_timing: _TimedEvent(self, enable_timing),
            "Stream": lambda device: _Stream(self.log, device),
            "stream": self.on_stream,
            "CUDAGraph": lambda: _Graph(self),
            "graph": self.capture,
        }
        for name, value in replacements.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def on_stream(self, stream):
        self.log.append("side stream")
        yield

    @contextmanager
    def capture(self, graph, pool=None, stream=None):
        if self.refuse:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.log.append(f"capture pool={pool} on {stream.device}")
        before, self.log = self.log, []
        yield
        if not self.log:
            # as torch does; a warning is an error here
            warnings.warn("The CUDA Graph is empty. This usually means ...", stacklevel=2)
        graph.content, self.log = self.log, before


class _Graph:
    def __init__(self, cuda):
        self.cuda, self.content = cuda, []

    def pool(self):
        return "shared"

    def replay(self):
        self.cuda.log.extend(f"replayed {entry}" for entry in self.content)


class _TimedEvent:
    def __init__(self, cuda, enable_timing):
        assert enable_timing
        self.cuda, self.at_ms = cuda, None

    def record(self, stream):
        assert isinstance(stream, _Stream)
        self.at_ms = self.cuda.time_ms

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


@pytest.fixture
def cuda(monkeypatch):
    stand_in = _Cuda()
    stand_in.install(monkeypatch)
    return stand_in


def _events(clock_mhz=None):
    nvml = SimpleNamespace(clock_mhz=lambda: clock_mhz)
    return CudaEvents(torch.device("cpu"), nvml)


def test_events_count_milliseconds_and_the_flush_is_as_large_as_the_cache(cuda):
    events = _events(1980.0)
    assert events._flushed.numel() == 4096
    events._flushed.fill_(1)

    def call(_):
        assert not events._flushed.any(), "the cache is flushed before the call"
        cuda.time_ms += 250

    reading = EventClock(events).read(Work(call))
    assert reading.seconds == 0.25
    assert cuda.log == ["synchronize"]
    assert events.clock_mhz() == 1980.0


def test_graphs_capture_preparation_and_call_apart_and_replay_both(cuda):
    work = Work(lambda state: cuda.log.append(f"call {state}"), lambda: cuda.log.append("prepare") or 7)
    replayed = graphed(work, DEVICE)
    assert cuda.log == [
        "wait", "side stream", *["prepare", "call 7"] * 3, "wait", "capture pool=None on cuda:1",
        "capture pool=shared on cuda:1",
    ]  # fmt: skip
    cuda.log.clear()
    replayed.call(replayed.prepare())
    assert cuda.log == ["replayed prepare", "replayed call 7"]


def test_a_pass_without_preparation_is_captured_without_a_word(cuda):
    replayed = graphed(Work(lambda _: cuda.log.append("call")), DEVICE)
    cuda.log.clear()
    replayed.call(replayed.prepare())
    assert cuda.log == ["replayed call"]
    with pytest.warns(UserWarning, match="CUDA Graph is empty"):
        graphed(Work(lambda _: None), DEVICE)


def test_what_cannot_be_captured_says_why_in_a_line(cuda):
    cuda.refuse = True
    with pytest.raises(MeasurementError, match=r"as a CUDA graph: operation not permitted when stream is capturing$"):
        graphed(Work(lambda _: None), DEVICE)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("pass_", "mode"), [("forward", "eval"), ("backward", "train"), ("step", "train")])
def test_passes_are_timed_by_events(pass_, mode, graphs):
    setting = PassSetting(pass_, mode, "cuda", batch_size=2, graphs=graphs)
    record = measure_time(SMALL.build("cpu"), SMALL.input, setting, QUICK)
    assert (record.device, record.clock, record.graphed) == ("cuda", "torch.cuda.Event", graphs)
    assert min(record.samples.seconds) > 0


@needs_gpu
@pytest.mark.gpu
def test_the_breakdown_counts_kernels():
    found = measure_breakdown(
        SMALL.build("cpu"), SMALL.input, PassSetting("step", "train", "cuda"), passes=2, rule=QUICK
    )
    assert {"aggregation", "convolution", "norm"} <= {term.term for term in found.terms if term.seconds > 0}
    assert sum(term.seconds for term in found.terms) + found.unattributed_s == pytest.approx(found.total_s)


@needs_gpu
@pytest.mark.gpu
def test_the_roof_is_measured_by_events():
    peaks = measure_peaks("cuda", product_size=256, copy_bytes=1 << 20, rule=QUICK)
    found = measure_roofline(SMALL.build("cpu"), SMALL.input, device="cuda", peaks=peaks, rule=QUICK)
    assert all(layer.measured_s > 0 for layer in found.layers)


@needs_gpu
@pytest.mark.gpu
def test_a_budget_has_a_measured_peak():
    found = measure_budget(SMALL, Recipe(1, 4, 8), device="cuda", rule=QUICK)
    assert found.step is not None
    assert found.step.peak_bytes is not None
    assert found.step.peak_bytes > 0
