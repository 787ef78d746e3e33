"""On the meta device a forward takes the branches that it takes on the caller's: it is told the caller's device."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.subjects.inputs import Example
from e4profile.subjects.told_device import ToldDevice
from e4profile.witnesses.counts import dispatch
from e4profile.witnesses.counts.dispatch import count_dispatch, count_run
from e4profile.witnesses.counts.training_step import count_training_step
from e4profile.witnesses.memory.saved import saved_for_backward
from e4profile.witnesses.walk import Watcher

CPU = torch.device("cpu")


def in_another_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


# each is true on a processor and false on the meta device
ASKED: dict[str, Callable[[Tensor], bool]] = {
    "type": lambda x: x.device.type == "cpu",
    "equal": lambda x: x.device == CPU,
    "equal from the left": lambda x: CPU == x.device,  # noqa: SIM300
    "among": lambda x: x.device in {CPU: 1},
    "again": lambda x: torch.device(x.device).type == "cpu",
    "text": lambda x: f"{x.device}" == "cpu",
    "index": lambda x: x.device.index is None and x.get_device() == -1,
    "attribute": lambda x: getattr(x, "is_cpu") and not x.is_meta,  # noqa: B009
    "type of tensor": lambda x: x.type() == "torch.FloatTensor",
    "what it makes": lambda x: torch.zeros(1, device=x.device).device.type == "cpu" == torch.zeros(1).device.type,
    "instance": lambda x: isinstance(x, torch.FloatTensor) and not isinstance(x, torch.DoubleTensor),
    "its type": lambda x: x.double().type(torch.FloatTensor).type() == torch.typename(x) == "torch.FloatTensor",
    "storage": lambda x: x.untyped_storage().device == CPU,
    "another thread": lambda x: in_another_thread(lambda: x.is_cpu),
    "a pool": lambda x: ThreadPoolExecutor(1).submit(lambda: x.device).result() == CPU,
    "what was moved": lambda x: x.to("cpu").device == x.cpu().device == CPU,
}


class Branching(nn.Module):
    def __init__(self, asked: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.asked = asked
        self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if self.asked(x) and self.asked(self.one.weight.detach()) else self.other(x)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_branch_is_the_callers(asked: Callable[[Tensor], bool]) -> None:
    model, example = Branching(asked), Example((torch.ones(2, 4),))
    counted, _, notes = count_run(model, example, Watcher)
    assert counted.by_operator == count_dispatch(model, example.positional, on_meta=False).by_operator
    assert (counted.macs, notes) == (32, ())
    assert not {"device", "is_meta", "is_cpu", "get_device", "data_ptr", "type"} & vars(Tensor).keys()


@pytest.mark.parametrize("device", ["x.device", "x.device.type", "str(x.device)", "torch.device(x.device)"])
def test_what_is_made_on_the_device_that_was_read_meets_what_is_there(device: str) -> None:
    class Making(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            on = eval(device, {"x": x, "torch": torch})
            shift = torch.arange(4, device=on) + torch.tensor([1, 2, 3, 4], device=on) + torch.full((4,), 2)
            with torch.device(on):
                shift = shift + torch.ones(4)
            out = torch.zeros(2, 4, device=on)
            out[:1] = (x + shift)[:1] @ torch.eye(4).to(on)
            return out.to(x)

    counted, _, notes = count_run(Making(), Example((torch.ones(2, 4),)), Watcher)
    assert (counted.macs, notes) == (16, ())


def test_values_and_addresses_need_a_run_for_real() -> None:
    class Reading(nn.Module):
        def __init__(self, read: Callable[[Tensor], object]) -> None:
            super().__init__()
            self.layer, self.read = nn.Linear(4, 4, bias=False), read

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if self.read(x) else x

    reads = (
        lambda x: x.data_ptr() != x.clone().data_ptr(),
        lambda x: x.untyped_storage().data_ptr() != x.clone().untyped_storage().data_ptr(),
        lambda x, kind=torch.FloatTensor: isinstance(x, kind),
        lambda x: torch.arange(2, device=x.device).tolist() == [0, 1],
    )
    for read in reads:
        counted, _, notes = count_run(Reading(read), Example((torch.ones(2, 4),)), Watcher)
        assert counted.macs == 32
        assert notes[0].startswith("run for real on cpu")


def test_a_cache_by_device_holds_none_that_has_no_values() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        @staticmethod
        @functools.lru_cache
        def steps(size: int, device: torch.device) -> Tensor:
            return torch.arange(float(size), device=device)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * (x + self.steps(4, x.device)) @ x.T

    for _ in range(2):
        assert count_run(Cached(), Example((torch.ones(2, 4),)), Watcher)[0].macs == 16
        assert Cached.steps(4, CPU).device == CPU
        Cached.steps.cache_clear()
        assert count_training_step(Cached(), (4,), 2).forward == 16
        assert type(Cached.steps(4, CPU)) is Tensor


def test_another_device_is_told_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnCuda(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.is_cuda
            assert (x.get_device(), x.device.index, x.type()) == (0, 0, "torch.cuda.FloatTensor")
            assert torch.zeros(1).device == CPU, "the default device is the processor there too"
            return x @ x.T

    monkeypatch.setattr(dispatch, "device_of", lambda _: torch.device("cuda", 0))
    assert count_dispatch(OnCuda(), (torch.ones(2, 4),)).macs == 16
    told = ToldDevice(torch.device("cuda", 0))
    told.was_read = True
    made_on = {
        name: told.on_meta("aten::zeros", (), {"device": torch.device(name)})[1]["device"].type
        for name in ("cuda", "cuda:0", "cuda:1", "cpu")
    }
    assert made_on == {"cuda": "meta", "cuda:0": "meta", "cuda:1": "cuda", "cpu": "cpu"}


class InThread(nn.Module):
    """Multiplies in a thread: one that the forward starts, or one that is there for good."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.calls: SimpleQueue[Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        def work() -> Tensor:
            return (self.layer(x) @ x.T).sigmoid()

        if self.calls is None:
            return in_another_thread(work)
        self.calls.put(work)
        return self.results.get()

    def stay(self) -> None:
        self.calls, self.results = SimpleQueue(), SimpleQueue()

        def loop() -> None:
            while (work := self.calls.get()) is not None:
                self.results.put(work())

        threading.Thread(target=loop, daemon=True).start()


def test_what_runs_in_another_thread_is_counted_and_kept() -> None:
    model, example = InThread(), Example((torch.ones(2, 4),))
    for on_meta in (True, False):
        assert count_dispatch(model, example.positional, on_meta=on_meta).macs == 32 + 16
    kept, real = (saved_for_backward(model, (4,), batch_size=2, device=device) for device in ("meta", "cpu"))
    assert kept.saved_bytes == real.saved_bytes == 4 * (2 * 2)
    assert kept.input_bytes == real.input_bytes == 4 * 2 * 4
    model.stay()
    for measure in (lambda: count_run(model, example, Watcher), lambda: saved_for_backward(model, (4,), batch_size=2)):
        with pytest.raises(SettingError, match="layer of InThread runs in a thread that was there before the call"):
            measure()
    model.calls.put(None)
    assert threading.Thread.start.__module__ == "threading"


LIBRARY = """
import torch
from library_with_caches.tables import KEPT, first
def shifts(x):
    if x.device not in KEPT: KEPT[x.device] = torch.ones(4, device=x.device)
    return KEPT[x.device] + first(x)
"""
TABLES = """
KEPT, FIRST = {}, None
def first(x):
    global FIRST
    if FIRST is None: FIRST = x.new_ones(4)
    return FIRST
"""


def test_what_an_installed_library_keeps_by_device_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "library_with_caches"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(LIBRARY)
    (folder / "tables.py").write_text(TABLES)
    monkeypatch.syspath_prepend(str(folder.parent))
    library = importlib.import_module("library_with_caches")
    tables = importlib.import_module("library_with_caches.tables")

    class Using(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + library.shifts(x)) @ x.T

    model = Using()
    assert count_run(model, Example((torch.ones(2, 4),)), Watcher)[0].macs == 16
    assert saved_for_backward(model, (4,), batch_size=2).notes == ()
    assert (tables.KEPT, tables.FIRST) == ({}, None)
    before = model(torch.ones(2, 4)), tables.KEPT[CPU], tables.FIRST
    assert count_run(model, Example((torch.ones(2, 4),)), Watcher)[0].macs == 16
    assert tables.KEPT[CPU] is before[1]
    assert tables.FIRST is before[2]
