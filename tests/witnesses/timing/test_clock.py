from __future__ import annotations

import sys

import pynvml
import pytest
from stub_clocks import StubEvents

from e4profile.errors import SettingError
from e4profile.witnesses.timing.clock import CpuClock, EventClock, Work
from e4profile.witnesses.timing.cuda import Nvml
from e4profile.witnesses.timing.measure import clock_for


def test_the_cpu_clock_leaves_the_preparation_out(monkeypatch):
    ticks = iter([1_000, 4_000])
    order = []

    def tick():
        order.append("tick")
        return next(ticks)

    monkeypatch.setattr("time.perf_counter_ns", tick)
    work = Work(lambda state: order.append(f"call {state}"), lambda: order.append("prepare") or 7)
    assert CpuClock().read(work).seconds == pytest.approx(3e-6)
    assert order == ["prepare", "tick", "call 7", "tick"]


def test_events_enclose_the_call_alone_and_are_read_after_synchronising():
    events = StubEvents()
    work = Work(events.kernel("call", 0.25), events.kernel("prepare", 10.0))
    reading = EventClock(events).read(work)
    assert events.log == ["prepare", "flush", "mark", "call", "mark", "synchronize", "clock"]
    assert reading.seconds == 0.25
    assert not reading.dropped


def test_a_sample_below_three_quarters_of_the_highest_clock_is_dropped():
    events = StubEvents(clocks_mhz=[1000.0, 2000.0, 1500.0, 1499.0, 2000.0])
    clock = EventClock(events)
    work = Work(events.kernel("call", 0.1))
    # three quarters themselves are kept
    assert [clock.read(work).dropped for _ in range(5)] == [False, False, False, True, False]
    assert clock.watched
    assert clock.highest_mhz == 2000.0


def test_without_a_clock_to_watch_nothing_is_dropped():
    events = StubEvents(clocks_mhz=[None, None])
    clock = EventClock(events)
    work = Work(events.kernel("call", 0.1))
    assert not clock.read(work).dropped
    assert not clock.watched


def test_the_drop_must_be_a_fraction():
    with pytest.raises(SettingError, match=r"drop_below \(=75\)"):
        EventClock(StubEvents(), drop_below=75)


@pytest.mark.parametrize("device", ["meta", "tpu"])
def test_devices_without_a_clock_are_refused(device):
    with pytest.raises(SettingError, match=device):
        clock_for(device)


class _Library:
    """As much of ``pynvml`` as is asked for."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM

    def __init__(self, known: str = "GPU-abc", failing: str = "", count: int = 1) -> None:
        self.known, self.failing, self.count = known, failing, count
        self.asked_for: list[int] = []

    def _answer(self, what: str, value: object = None) -> object:
        if self.failing == what:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value

    def nvmlInit(self):
        self._answer("init")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != self.known:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetCount(self):
        return self._answer("count", self.count)

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked_for.append(index)
        return self.known

    def nvmlDeviceGetClockInfo(self, handle, kind):
        assert (handle, kind) == (self.known, 1)
        return self._answer("clock", 1755)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == self.known
        return self._answer("energy", 12_345)


def test_the_driver_is_asked_in_its_own_units():
    device = Nvml("abc", _Library())
    assert (device.missing, device.clock_mhz(), device.energy_j()) == (None, 1755.0, 12.345)


@pytest.mark.parametrize(
    ("library", "reason"), [(_Library("GPU-other"), "does not know"), (_Library(failing="init"), "not start")]
)
def test_a_driver_that_does_not_answer_is_named(library, reason):
    device = Nvml("GPU-abc", library)
    assert device.missing is not None
    assert reason in device.missing
    assert (device.clock_mhz(), device.energy_j()) == (None, None)


def test_a_slice_of_a_device_keeps_its_own_kind_of_uuid():
    assert Nvml("MIG-abc", _Library("MIG-abc")).missing is None


def test_the_only_device_needs_no_uuid():
    library = _Library()
    assert (Nvml("", library).clock_mhz(), library.asked_for) == (1755.0, [0])


@pytest.mark.parametrize(
    ("library", "reason"),
    [(_Library(count=2), "is not known which"), (_Library(failing="count"), "does not know this")],
)
def test_one_of_several_devices_without_a_uuid_is_not_guessed(library, reason):
    device = Nvml("", library)
    assert device.missing is not None
    assert reason in device.missing
    assert (device.clock_mhz(), library.asked_for) == (None, [])


def test_a_quantity_that_the_driver_lacks_is_none():
    assert Nvml("abc", _Library(failing="clock")).clock_mhz() is None
    assert Nvml("abc", _Library(failing="energy")).energy_j() is None


def test_without_the_package_or_the_driver_nothing_is_read(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlInit", _Library(failing="init").nvmlInit)
    assert str(Nvml("abc").missing).startswith("NVML does not start")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = Nvml("abc")
    assert (device.missing, device.energy_j()) == ("the package nvidia-ml-py is not installed", None)
