"""The caller's network is as it was found after every call, whatever it does to itself, also when it raises."""

from __future__ import annotations

import copy
import importlib
import random
import sys
import threading
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, cached_property, lru_cache, partial
from io import StringIO
from itertools import count, cycle
from pathlib import Path
from queue import Queue
from threading import Event
from types import GeneratorType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import e4profile
from e4profile.errors import SettingError
from e4profile.questions.guard.run import check_directly
from e4profile.questions.time.roofline import measure_roofline
from e4profile.subjects.as_found import NotGivenBackError, as_found
from e4profile.subjects.copies import copied, materialised
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.inputs import Example
from e4profile.subjects.process import apply, settings
from e4profile.witnesses.counts.dispatch import count_dispatch
from e4profile.witnesses.counts.measure import measure_module
from e4profile.witnesses.counts.recorded import recorded_work
from e4profile.witnesses.counts.training_step import count_training_step, measured_training_macs
from e4profile.witnesses.memory.peak import allocator_emulation
from e4profile.witnesses.memory.saved import saved_for_backward
from e4profile.witnesses.memory.step import predict
from e4profile.witnesses.timing.passes import PassSetting, prepared
from e4profile.witnesses.timing.peaks import Peaks
from e4profile.witnesses.timing.samples import StopRule

IMAGE = (3, 8, 8)


class Base(nn.Module):
    """Three layers, whose forward calls ``spoil`` with its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dense = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.prepare()

    def prepare(self) -> None:
        """What else it holds."""

    def spoil(self, x: Tensor) -> Tensor:
        """Change itself, and perhaps the features."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.spoil(self.norm(self.conv(x))).mean((2, 3)))


class Helper:
    """A plain object."""

    def __init__(self) -> None:
        self.table: dict[Any, Any] = {}


class Slotted:
    __slots__ = ("seen", "unset")

    def __init__(self) -> None:
        self.seen: Any = None


class CachesBySize(Base):
    kept: dict[Any, Any] = {}
    calls = 0

    def prepare(self) -> None:
        self.by_size: dict[int, Tensor] = {}
        self.sizes: list[Any] = [[], ({},)]
        self.recent: deque[Any] = deque(maxlen=2)
        self.devices: set[Any] = set()
        self.nested = OrderedDict(inner={"deep": [Helper()]})
        self.helper, self.slotted = Helper(), Slotted()
        self.ready, self.waiting = Event(), Queue()

    def spoil(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        if n not in self.by_size:
            self.by_size[n] = torch.linspace(0, 1, n, device=x.device)
        grid = self.by_size[n]
        self.sizes.append(grid)
        self.sizes[0].append(grid)
        self.sizes[1][0][n] = grid
        self.recent.append(grid)
        self.devices.add(grid)
        self.nested["inner"]["deep"][0].table[n] = grid
        self.helper.table, self.slotted.seen, self.slotted.unset = {n: grid}, grid, grid
        self.kept[n] = grid
        self.ready.set()
        self.waiting.put(grid)
        type(self).calls += 1
        self.nested.move_to_end("inner")
        return x + self.nested["inner"]["deep"][0].table[n] + self.kept[n]


class CachesByFunction(Base):
    def prepare(self) -> None:
        self.grid = lru_cache(maxsize=None)(self._grid)

    def _grid(self, n: int) -> Tensor:
        return torch.linspace(0, 1, n, device=self.where)

    @cache  # noqa: B019 - what is written by many
    def shared(self, n: int) -> Tensor:
        return torch.linspace(0, 1, n, device=self.where)

    @cached_property
    def bias(self) -> Tensor:
        return self.conv.bias * 2

    def spoil(self, x: Tensor) -> Tensor:
        self.where = x.device
        return x + self.grid(x.shape[-1]) + self.shared(x.shape[-1]) + self.bias.mean()


class InstallsHooks(Base):
    def prepare(self) -> None:
        self.seen: list[Tensor] = []
        self.handles: list[Any] = []
        seen = self.told = []
        self.dense.register_forward_hook(lambda _, __, output: seen.append(output))

    def spoil(self, x: Tensor) -> Tensor:
        if not self.handles:
            self.handles += [
                self.dense.register_forward_hook(lambda _, __, output: self.seen.append(output)),
                self.dense.register_forward_pre_hook(lambda _, inputs: None),
                self.norm.register_full_backward_hook(lambda *_: None),
            ]
        return x


class CountsInBuffers(Base):
    def prepare(self) -> None:
        self.register_buffer("calls", torch.zeros(()))
        self.plain, self.array = torch.zeros(3), np.zeros(2)
        self.view = self.plain[1:]
        self.generator = torch.Generator().manual_seed(3)
        self.dice = random.Random(3)

    def spoil(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.plain += 1
        self.view.mul_(2)
        self.array += 1
        torch.rand(1, generator=self.generator)
        self.dice.random()
        return x + torch.rand(1, device=x.device) + np.random.rand() + random.random()


class ChangesItself(Base):
    def prepare(self) -> None:
        self.aliases = list(self.parameters())
        self.step = 0

    def spoil(self, x: Tensor) -> Tensor:
        self.step = vars(self).pop("step", 0) + 1
        self.late = nn.ReLU()
        self.add_module("other", nn.Identity())
        self.conv.weight.data = self.conv.weight.data * 0.5
        self.conv.bias.data.mul_(0.5)
        self.dense.weight = nn.Parameter(self.dense.weight.detach() * 2)
        self.register_buffer("grid", x.detach())
        self.norm.eval()
        self.dense.bias.requires_grad_(False)
        with torch.no_grad():
            self.aliases[-2].add_(1)
        vars(self).pop("step")
        return x


class HasStrangeParts(Base):
    def prepare(self) -> None:
        class Part(nn.Module):
            def __init__(self, value: float) -> None:
                super().__init__()
                self.value = nn.Parameter(torch.full((2,), value))

            def __eq__(self, other: object) -> Any:
                return self.value == other.value  # type: ignore[attr-defined]

            def __hash__(self) -> int:
                return 1 if self is None else id(self)

            def __deepcopy__(self, memo: Any) -> Any:
                raise RuntimeError("not to be copied")

            def forward(self, x: Tensor) -> Tensor:
                return x * self.value.sum()

        self.parts = nn.ModuleList([Part(1.0), Part(2.0)])
        self.chosen, self.lock = [self.parts[0]], threading.Lock()
        self.kind = namedtuple("Kind", "a b")(self.parts[0], {})
        self.held = partial(self.scale, factor={"by": 2.0})
        self.made = self.conv.weight * 2

    def scale(self, x: Tensor, factor: dict[str, float]) -> Tensor:
        factor["by"] += 1
        return x * 2

    def spoil(self, x: Tensor) -> Tensor:
        with self.lock:
            self.kind.b[1] = x
            for part in self.parts:
                x = part(x)
            return self.held(x)


class OldNorms(Base):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(self.conv)
        nn.utils.spectral_norm(self.dense)
        self.third = parametrizations.weight_norm(nn.Linear(4, 4))

    def spoil(self, x: Tensor) -> Tensor:
        return self.third(x.movedim(1, -1)).movedim(-1, 1)


class Recurrent(Base):
    def prepare(self) -> None:
        self.lstm = nn.LSTM(8, 8)
        self.state: Any = None

    def spoil(self, x: Tensor) -> Tensor:
        out, self.state = self.lstm(x.flatten(0, 1), None)
        return out.view_as(x)


class AdvancesIterators(Base):
    def prepare(self) -> None:
        many = 9999  # passes of a short timing
        self.drawn, self.turns, self.counted = iter([1.0, 2.0] * many), [cycle([1, 2])], {"calls": count()}
        self.pairs = zip(map(float, range(many)), enumerate("ab" * many), strict=False)
        self.lines = StringIO("1\n" * many)

    def spoil(self, x: Tensor) -> Tensor:
        (step, _), line = next(self.pairs), float(self.lines.readline())
        return x + next(self.drawn) + next(self.turns[0]) + next(self.counted["calls"]) + step + line


class AdvancesAGenerator(Base):
    def prepare(self) -> None:
        self.steps = (float(i) for i in range(9999))

    def spoil(self, x: Tensor) -> Tensor:
        return x + next(self.steps)


class SetsTheProcess(Base):
    def spoil(self, x: Tensor) -> Tensor:
        import late_library

        torch.use_deterministic_algorithms(True)
        torch.set_default_dtype(torch.float64)
        return late_library.shifted(x)


class NeedsValues(CountsInBuffers):
    def spoil(self, x: Tensor) -> Tensor:
        x = super().spoil(x)
        self.last = x.sum().item()
        self.conv.weight.data.mul_(0.5)
        return x


class RaisesHalfWay(CachesBySize):
    def spoil(self, x: Tensor) -> Tensor:
        super().spoil(x)
        self.conv.weight.data.mul_(0.5)
        self.norm.train()
        torch.rand(1)
        raise ArithmeticError("half way")


HOSTILE = (
    CachesBySize, CachesByFunction, InstallsHooks, CountsInBuffers, ChangesItself, HasStrangeParts, OldNorms, Recurrent,
    NeedsValues, AdvancesIterators, AdvancesAGenerator, SetsTheProcess, RaisesHalfWay,
)  # fmt: skip


def _timed(model: nn.Module, inputs: Any = IMAGE) -> None:
    for setting in (PassSetting(threads=1), PassSetting(pass_="step", mode="train", threads=1)):
        with prepared(model, inputs, setting) as taken:
            taken.work.call(taken.work.prepare())


def _roofline(model: nn.Module) -> None:
    peaks = Peaks(1e9, 1e9, "cpu", "float32", 1, {})
    measure_roofline(model, IMAGE, peaks=peaks, threads=1, rule=StopRule(min_run_time_s=0, max_run_time_s=0.01))


CALLS: dict[str, Callable[[nn.Module], object]] = {
    "count": lambda model: e4profile.count(model, IMAGE),
    "measure": lambda model: measure_module(model, (2, *IMAGE)),
    "saved": lambda model: saved_for_backward(model, IMAGE),
    "saved on the cpu": lambda model: saved_for_backward(model, IMAGE, device="cpu", train=False),
    "peak": lambda model: allocator_emulation(model, IMAGE, device="cpu"),
    "predict": lambda model: predict(model, IMAGE, 2),
    "training step": lambda model: count_training_step(model, IMAGE, 2),
    "training macs": lambda model: measured_training_macs(model, lambda: model(torch.ones(2, *IMAGE)).sum()),
    "equivariance": lambda model: e4profile.check_equivariance(model, (1, *IMAGE), group="p4"),
    "guard": lambda model: check_directly(
        model, (2, *IMAGE), Path.cwd(), {}, {"macs_max": 1, "saved_bytes_max": 1, "closed_form": True}
    ),
    "recorded work": lambda model: recorded_work(model, Example((torch.ones(2, *IMAGE),))),
    "time": _timed,
    "roofline": _roofline,
}  # fmt: skip


def described(value: Any, seen: dict[int, Any]) -> Any:
    """Everything that can be read of an object, by identity, tensors by their bytes too."""
    if id(value) in seen:
        return id(value)
    seen[id(value)] = value
    if isinstance(value, Tensor):
        shown = value.detach()
        return (id(value), value.requires_grad, id(value.grad) if value.is_leaf else 0, shown.data_ptr(), str(shown))
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, random.Random):
        return id(value), value.getstate()
    if isinstance(value, dict):
        return id(value), [(described(key, seen), described(item, seen)) for key, item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return id(value), [described(item, seen) for item in value]
    if isinstance(value, GeneratorType):
        return id(value), [described(one, seen) for one in value.gi_frame.f_locals.values()]
    if isinstance(value, StringIO):
        return id(value), value.tell()
    if isinstance(value, Iterator):
        _, arguments, *state = value.__reduce__()  # type: ignore[misc]
        return id(value), [described(one, seen) if isinstance(one, Iterator) else str(one) for one in arguments], state
    if isinstance(value, (set, frozenset)):
        return id(value), sorted(map(id, value))
    if isinstance(value, (nn.Module, Helper)):
        own = {name: item for name, item in vars(type(value)).items() if not (callable(item) or name.startswith("__"))}
        return id(value), type(value), described(vars(value), seen), [described(item, seen) for item in own.values()]
    if isinstance(value, (Event, Queue)):
        return id(value), value.is_set() if isinstance(value, Event) else described(value.queue, seen)
    if isinstance(value, Slotted):
        return id(value), id(value.seen), id(getattr(value, "unset", None))
    return id(value)


@pytest.fixture
def late_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = (
        "import torch\nKEPT = {}\ndef shifted(x):\n    return x + KEPT.setdefault(1, torch.ones((), device=x.device))\n"
    )
    (tmp_path / "late_library.py").write_text(kept)
    monkeypatch.syspath_prepend(tmp_path)
    before = settings()
    yield
    sys.modules.pop("late_library", None)
    apply(before)


RAISED = (ArithmeticError, NotImplementedError, RuntimeError, UserCodeError, SettingError)


def everything(model: nn.Module) -> Any:
    """The network and the random numbers of the process."""
    seen: dict[int, Any] = {}
    state = np.random.get_state()
    numbers = torch.get_rng_state().tolist(), state[1].tolist(), state[2], random.getstate()
    return described(model, seen), (*numbers, settings(), "late_library" in sys.modules), seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("late_library")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", HOSTILE, ids=lambda kind: kind.__name__)
def test_the_network_is_as_it_was_found(kind: type[Base], call: str) -> None:
    torch.manual_seed(1)
    model = kind()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    model.norm.eval()
    images = torch.rand(2, *IMAGE)
    for _ in range(2):
        before = everything(model)
        # what cannot run on the meta device raises, as the one that raises half way does
        with suppress(*RAISED):
            CALLS[call](model)
        after = everything(model)
        assert after[:2] == before[:2]
        if kind is RaisesHalfWay:
            return
        # the second time with what a real call leaves behind
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model(images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("late_library")
@pytest.mark.parametrize("kind", HOSTILE[:-1], ids=lambda kind: kind.__name__)
def test_a_real_call_gives_what_it_would_have_given(kind: type[Base]) -> None:
    outputs, process = [], settings()
    for calls in ((), CALLS):
        apply(process)
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        model = kind()
        kind.__dict__.get("kept", {}).clear()
        for call in calls:
            with suppress(*RAISED):
                CALLS[call](model)
        outputs.append((model(torch.ones(2, *IMAGE)), len(model.dense._forward_hooks)))
    (plain, hooks), (afterwards, hooks_afterwards) = outputs
    assert torch.equal(plain, afterwards)
    assert hooks == hooks_afterwards


class Dice(random.Random):
    """Refuses its old state."""

    def setstate(self, state: Any) -> None:
        raise ValueError("never back")


def test_one_step_of_the_restore_that_fails_keeps_none_of_the_others_from_it() -> None:
    model = CachesBySize()
    first, last = Dice(1), Dice(2)
    model.dice = [first, {}, last]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NotGivenBackError, match=r"CachesBySize could not be.*: ValueError: never back and 1 m"):
        measure_module(model, (1, *IMAGE), ())
    assert model.dice == [first, {}, last]
    assert model.by_size == {}
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS)
def test_a_scripted_part_is_refused_before_anything_is_touched(call: str) -> None:
    model = nn.Sequential(CachesBySize(), torch.jit.script(nn.Linear(2, 2)))
    model[0].conv.weight.grad = torch.ones_like(model[0].conv.weight)
    before = everything(model[0])
    with pytest.raises(SettingError, match=r"1 \(RecursiveScriptModule\) is a ScriptModule, which is not supported"):
        CALLS[call](model)
    assert everything(model[0])[:2] == before[:2]
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert model(torch.ones(1, *IMAGE)).shape == (1, 2)


def lazy_and_eager() -> tuple[nn.Module, nn.Module]:
    """The same network twice, with shapes that wait for a first call, and with shapes."""
    return (
        nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)),
    )


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("call", [call for call in CALLS if call != "training macs"])
def test_a_lazy_network_stays_lazy(call: str) -> None:
    lazy, eager = lazy_and_eager()
    hooks = [dict(part._forward_pre_hooks) for part in lazy]
    found, expected = CALLS[call](lazy), CALLS[call](eager)
    assert [type(lazy[place]) for place in (0, 1, 4)] == [nn.LazyConv2d, nn.LazyBatchNorm2d, nn.LazyLinear]
    assert all(lazy[place].has_uninitialized_params() for place in (0, 1, 4))
    assert [dict(part._forward_pre_hooks) for part in lazy] == hooks
    if call in {"measure", "saved", "peak", "predict", "largest batch", "training step"}:
        assert found == expected
    assert lazy(torch.ones(2, *IMAGE)).shape == (2, 2)
    assert type(lazy[0]) is nn.Conv2d


class Builds(nn.Module):
    """Builds its filter in evaluation mode, as steerable libraries do, and has none in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3, 1, 1))

    def expanded(self) -> Tensor:
        return self.weight * 2

    def train(self, mode: bool = True) -> Builds:
        if mode:
            if hasattr(self, "filter"):
                del self.filter
        elif self.training:
            self.register_buffer("filter", self.expanded())
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.expanded() if self.training else self.filter)


@pytest.mark.parametrize("mode", ["fresh", "train", "eval", "after a step"])
@pytest.mark.parametrize("call", CALLS)
def test_a_network_that_builds_filters_in_eval_is_measured_in_any_mode(mode: str, call: str) -> None:
    model = nn.Sequential(Builds(), nn.Flatten(), nn.Linear(128, 2))
    if mode == "after a step":
        model(torch.ones(1, *IMAGE)).sum().backward()
    if mode != "fresh":
        model.train(mode == "train")
    before = everything(model)
    CALLS[call](model)
    assert everything(model)[:2] == before[:2]


def test_a_copy_shares_nothing_and_does_what_the_original_does() -> None:
    for kind in HOSTILE[:-3]:
        torch.manual_seed(1)
        model = kind()
        twin = copied(model)
        before = described(model, {})
        with as_found(model):
            torch.manual_seed(2)
            random.seed(2)
            np.random.seed(2)
            expected = twin(torch.ones(2, *IMAGE))
        assert described(model, {}) == before
        torch.manual_seed(2)
        random.seed(2)
        np.random.seed(2)
        assert torch.equal(model(torch.ones(2, *IMAGE)), expected)


def test_a_hook_of_the_caller_that_fills_a_list_fills_none_with_our_runs() -> None:
    seen: list[Tensor] = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model[0].register_forward_hook(lambda _, __, output: seen.append(output))
    e4profile.count(model, IMAGE)
    assert seen == []
    with prepared(model, IMAGE) as taken:
        taken.work.call(taken.work.prepare())
    assert seen == []


_KEPT: dict[int, torch.Tensor] = {}
_LISTED: list[torch.Tensor] = []


def _steps(size: int, device: torch.device) -> torch.Tensor:
    if size not in _KEPT:
        _KEPT[size] = torch.arange(float(size), device=device)
    return _KEPT[size]


@lru_cache
def _ones(size: int, device: torch.device) -> torch.Tensor:
    return torch.ones(size, device=device)


class KeepsInItsFile(nn.Linear):
    def forward(self, features):
        _LISTED.append(features)
        size = features.shape[-1]
        return super().forward(features + _steps(size, features.device) + _ones(size, features.device))


@pytest.mark.parametrize(
    "measure", [lambda model: measure_module(model, (2, 4)), lambda model: saved_for_backward(model, (4,))]
)
def test_what_a_forward_keeps_in_its_file_is_as_found(measure):
    model, features = KeepsInItsFile(4, 3), torch.ones(2, 4)
    expected = model(features)
    _KEPT.clear()
    measure(model)
    assert _KEPT == {}
    assert len(_LISTED) == 1
    assert torch.equal(model(features), expected)
    _LISTED.clear()


_GRID = None


class _Tables:
    shared = None


def _grid(size, device):
    global _GRID, _LATE  # noqa: PLW0603 - what is written by many
    if _GRID is None:
        _GRID = torch.ones(size, device=device)
        _LATE = _GRID + 1
        _Tables.shared = _GRID + 2
        _grid.kept = _GRID + 3
    return _GRID + _LATE + _Tables.shared + _grid.kept


class KeepsInVariables(nn.Linear):
    def forward(self, features):
        return super().forward(features + _grid(features.shape[-1], features.device))


@pytest.mark.parametrize(
    "measure", [lambda model: measure_module(model, (2, 4)), lambda model: saved_for_backward(model, (4,))]
)
@pytest.mark.parametrize("filled", [False, True])
def test_variables_of_its_file_that_a_forward_sets_are_as_found(measure, filled):
    global _GRID  # noqa: PLW0603 - as an import finds it
    _GRID = _Tables.shared = None
    globals().pop("_LATE", None)
    vars(_grid).clear()
    model, features = KeepsInVariables(4, 3), torch.ones(2, 4)
    if filled:
        model(features)
    before = (_GRID, globals().get("_LATE"), _Tables.shared, vars(_grid).get("kept"))
    measure(model)
    after = (_GRID, globals().get("_LATE"), _Tables.shared, vars(_grid).get("kept"))
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert model(features).device.type == "cpu"


BESIDE = """
import torch

TABLE, by_size = None, {}


def made(size, device):
    global TABLE
    TABLE = torch.ones(size, device=device)
    return by_size.setdefault(size, TABLE)
"""
IN_FILES = """
import beside_it
from beside_it import made
from torch import nn


class Files(nn.Linear):
    def forward(self, features):
        beside_it.LATE = features
        return super().forward(features + made(features.shape[-1], features.device))
"""


def test_variables_of_other_files_of_the_users_are_as_found(tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text(BESIDE)
    (tmp_path / "in_files.py").write_text(IN_FILES)
    monkeypatch.syspath_prepend(tmp_path)
    model, beside = importlib.import_module("in_files").Files(4, 3), importlib.import_module("beside_it")
    measure_module(model, (2, 4), ())
    assert (beside.TABLE, beside.by_size, hasattr(beside, "LATE")) == (None, {}, False)
    model(torch.ones(2, 4))
    held = beside.TABLE, beside.by_size[4], beside.LATE
    measure_module(model, (2, 4), ())
    assert all(one is other for one, other in zip((beside.TABLE, beside.by_size[4], beside.LATE), held, strict=True))
    for name in ("in_files", "beside_it"):
        del sys.modules[name]


class WritesToItsInput(nn.Linear):
    def forward(self, features):
        # the values keep it from the meta device
        return super().forward(features.add_(1 + int(features[0, 0])))


@pytest.mark.parametrize(
    "measure",
    [
        lambda model, images: measure_module(model, images, ("dispatch", "thop")),
        saved_for_backward,
        count_training_step,
        lambda model, images: recorded_work(model, Example((images,))),
        lambda model, images: materialised(nn.Sequential(model, nn.LazyLinear(2)), Example((images,))),
        _timed,
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_inputs_that_a_forward_writes_to_are_the_callers_no_more(measure):
    images = torch.ones(2, 4)
    measure(WritesToItsInput(4, 4), images)
    assert torch.equal(images, torch.ones(2, 4))


def test_stand_ins_are_what_they_stand_for():
    class Weight(nn.Parameter):
        """Of a class of its own."""

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.frozen = Weight(torch.ones(4, 4)), nn.Parameter(torch.ones(4), requires_grad=False)
            self.register_buffer("trained", torch.ones(4, requires_grad=True))
            self.held = [torch.ones(4, requires_grad=True)]

        def forward(self, features):
            assert type(self.weight) is Weight
            held = features, self.weight, self.frozen, self.trained, *self.held
            assert [one.requires_grad for one in held] == [True, True, False, True, True]
            return features @ self.weight

    for on_meta in (True, False):
        counted = count_dispatch(Asks(), (torch.ones(2, 4, requires_grad=True),), on_meta=on_meta)
        assert counted.macs == 32


class Member:
    """Hashes by what holds it, as elements of groups do."""

    def __init__(self, group: Any, number: int) -> None:
        self.group, self.number = group, number

    def __hash__(self) -> int:
        return hash((self.group.size, self.number))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and other.number == self.number


class OfMembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.size = 2
        self.places = {Member(self, 0): 0, Member(self, 1): 1}
        self.members = set(self.places)


def test_a_container_of_what_hashes_by_its_holder_is_copied() -> None:
    model = OfMembers()
    with pytest.raises(AttributeError):
        copy.deepcopy(model)
    twin = copied(model)
    assert twin.places == model.places
    assert twin.members == set(twin.places) == set(model.members)
    assert all(one.group is twin for one in twin.members)
