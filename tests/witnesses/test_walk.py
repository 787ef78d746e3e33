"""The one recorder of running modules."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_globals

import e4profile
from e4profile.witnesses.walk import Call, Watcher, following

GLOBAL_HOOKS = [name for name in vars(module_globals) if name.startswith("_global_") and "hook" in name]


class Log(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.calls: list[Call] = []

    def enter(self, call: Call) -> None:
        self.calls.append(call)
        self.lines.append(f"> {call.path or '.'} {[*map(len, call.inputs), *call.keywords]}")

    def leave(self, call: Call) -> None:
        output = None if call.output is None else tuple(call.output.shape)
        self.lines.append(f"< {call.path or '.'} {output}")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.again = self.inner

    def forward(self, features: Tensor, *, scale: int = 1) -> Tensor:
        foreign = nn.ReLU()
        out: Tensor = foreign(self.again(self.inner(features))) * scale
        return out


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, features: Tensor) -> Tensor:
        try:
            self.inner(features)
        except RuntimeError:
            return features
        raise AssertionError("the sizes do not fit")


def hooks_of(model: nn.Module) -> list[object]:
    own = [(part._forward_hooks, part._forward_pre_hooks) for part in model.modules()]
    return [str(own), *(str(getattr(module_globals, name)) for name in GLOBAL_HOOKS)]


def test_calls_are_told_from_outside_in_and_back_and_foreign_modules_left_out() -> None:
    model, log = Twice(), Log()
    with following(model, log) as walk:
        model(torch.ones(1, 2), scale=2)
        assert walk.running is None
    inner = ["> inner [1]", "> inner.0 [1]", "< inner.0 (1, 2)", "> inner.1 [1]"]
    inner += ["< inner.1 (1, 2)", "< inner (1, 2)"]
    assert log.lines == ["> . [1]", *inner, *inner, "< . (1, 2)"]
    assert [outer.path for outer in log.calls[2]] == ["inner.0", "inner", ""]
    # no tensor is kept
    assert all((call.inputs, call.keywords, call.output) == ((), {}, None) for call in log.calls)


def test_hooks_on_the_modules_tell_keyword_inputs() -> None:
    model, log = Twice(), Log()
    with following(model, log, only=[model]):
        model(torch.ones(1, 2), scale=2)
    assert log.lines == ["> . [1, 'scale']", "< . (1, 2)"]


def test_the_path_is_that_of_the_module_that_runs() -> None:
    seen: list[str] = []
    model = Twice()

    class Asks(Watcher):
        def enter(self, call: Call) -> None:
            del call
            seen.append(walk.path)

        def leave(self, call: Call) -> None:
            del call
            seen.append(walk.path)

    with following(model, Asks()) as walk:
        model.inner(torch.ones(1, 2))
    assert seen == ["inner", "inner.0", "inner", "inner.1", "inner", ""]


@pytest.mark.parametrize("only", [False, True])
def test_a_module_that_raises_is_left(only: bool) -> None:
    model, log = Fails(), Log()
    before = hooks_of(model)
    with following(model, log, only=model.modules() if only else None) as walk:
        model(torch.ones(1, 2))
        assert walk.running is None
    assert log.lines == ["> . [1]", "> inner [1]", "< inner None", "< . (1, 2)"]
    assert hooks_of(model) == before


@pytest.mark.parametrize("only", [False, True])
def test_no_hook_stays_behind_when_the_body_raises(only: bool) -> None:
    model = Twice()
    before = hooks_of(model)

    def run() -> None:
        with following(model, Watcher(), only=[model.inner, model.again] if only else None):
            assert hooks_of(model) != before
            model(torch.ones(1, 3))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run()
    assert hooks_of(model) == before


def test_a_users_hook_that_raises_before_a_module_is_entered_takes_no_other_call_away() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()))

    def refuse(module: nn.Module, _: object) -> None:
        if type(module) is nn.ReLU:
            raise RuntimeError("refused")

    handle = module_globals.register_module_forward_pre_hook(refuse)
    log = Log()
    try:
        with following(model, log), pytest.raises(RuntimeError, match="refused"):
            model(torch.ones(1))
    finally:
        handle.remove()
    assert log.lines == ["> . [1]", "> 0 [1]", "< 0 None", "< . None"]


def test_only_some_modules_have_hooks_and_a_call_in_another_thread_has_its_own_stack() -> None:
    model, log = Twice(), Log()
    with following(model, log, only=[model.inner[0], model.inner[0]]) as walk:
        model(torch.ones(1, 2))
        assert [line.split()[1] for line in log.lines] == ["inner.0"] * 4
        log.lines.clear()
        thread = threading.Thread(target=model.inner[0], args=(torch.ones(1, 2),))
        thread.start()
        thread.join()
        assert len(log.lines) == 2
        assert walk.running is None


def test_it_is_the_only_one() -> None:
    package = Path(e4profile.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("register_module_forward", "register_forward"))
    }
    assert found == {"witnesses/walk.py"}
