"""Our counter: every operator that PyTorch dispatches, on the meta device, scoped by module, with a ledger.

On the meta device nothing is allocated and nothing is computed; only shapes flow. While the model is called,
meta tensors stand in place of its parameters and buffers; modules are followed by process-wide hooks, so that
none is set on the model.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.subjects.as_found import evaluation_mode, meta_state, random_state_kept, refuse_unrun
from e4profile.witnesses.counts.base import Count, layer_counts
from e4profile.witnesses.counts.ledger import FREE, is_known, operations
from e4profile.witnesses.counts.products import SummedProducts


class _Scopes:
    """The stack of modules whose forward is running."""

    def __init__(self, model: nn.Module) -> None:
        self.paths = {module: path for path, module in model.named_modules()}
        self.stack: list[tuple[str, Any]] = []
        self.thread = threading.get_ident()

    def enter(self, module: nn.Module, _: Any) -> None:
        if module in self.paths and threading.get_ident() == self.thread:
            says = hasattr(module, "operation_kind") or hasattr(module, "counts_products")
            outer = self.stack[-1][1] if self.stack else None
            self.stack.append((self.paths[module], module if says else outer))

    def leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if module in self.paths and threading.get_ident() == self.thread and self.stack:
            self.stack.pop()

    @property
    def current(self) -> tuple[str, Any]:
        return self.stack[-1] if self.stack else ("", None)


@contextmanager
def following(model: nn.Module) -> Iterator[_Scopes]:
    """The module whose forward runs at any time: its path is ``current[0]``."""
    scopes = _Scopes(model)
    handles = [
        register_module_forward_pre_hook(scopes.enter),
        register_module_forward_hook(scopes.leave, always_call=True),
    ]
    try:
        yield scopes
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchDispatchMode):
    def __init__(self, scopes: _Scopes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.scopes = scopes
        self.by_path: dict[str, Counter[str]] = {}
        self.by_operator: dict[str, dict[str, Counter[str]]] = {}
        self.unknown: Counter[str] = Counter()
        self.unknown_in: dict[str, dict[str, None]] = {}
        self.free: Counter[str] = Counter()
        self.summed = SummedProducts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if torch.is_inference_mode_enabled() and not is_known(func) and func._can_decompose():
            # a forward that enters inference mode hides what an operator is made of: take it apart as PyTorch would
            with self:
                return func.decompose(*args, **keywords)
        out = func(*args, **keywords)
        path, scope = self.scopes.current
        amounts = operations(func, args, keywords, out, scope)
        self.summed.see(func, args, out, path, charged=bool(amounts))
        if amounts is None:
            name = func._overloadpacket._qualified_op_name
            self.unknown[name] += 1
            self.unknown_in.setdefault(name, {})[path] = None
        elif amounts:
            self.by_path.setdefault(path, Counter()).update(amounts)
            name = func._overloadpacket._qualified_op_name
            self.by_operator.setdefault(path, {}).setdefault(name, Counter()).update(amounts)
        else:
            self.free[func._overloadpacket._qualified_op_name] += 1
        return out


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Let PyTorch's transformer layers run as they are written: their fused operator hides its products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="meta")
    if isinstance(value, Mapping):
        return {key: _on_meta(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_meta(item) for item in value)
    return value


def count_dispatch(
    model: nn.Module,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
    on_meta: bool = True,
) -> Count:
    """Count what one forward pass executes.

    Args:
        model: any module; left as it was found, also when its forward raises.
        inputs: positional inputs; tensors are replaced by meta tensors of the same shape.
        keywords: keyword inputs, likewise.
        training: count in training mode instead of evaluation mode.
        on_meta: False runs the model for real on its own device, for a model that cannot run on meta.

    Raises:
        SettingError: for a forward that returns a generator or a coroutine, whose body has not run.
        Whatever the model's forward raises.
    """
    arguments, named = tuple(inputs), dict(keywords or {})
    with (
        evaluation_mode(model, training),
        random_state_kept(),
        # inference mode would hide an operator that is made of others
        torch.inference_mode(False),
        torch.no_grad(),
        meta_state(model) if on_meta else nullcontext(),
        _unfused_attention(),
        following(model) as scopes,
    ):
        if on_meta:
            arguments, named = _on_meta(arguments), _on_meta(named)
        with _Recorder(scopes) as recorder:
            refuse_unrun(model(*arguments, **named))
    return Count(
        "dispatch",
        torch.__version__,
        layer_counts(model, recorder.by_path),
        uncounted=dict(sorted(recorder.unknown.items())),
        uncounted_in={name: tuple(paths) for name, paths in sorted(recorder.unknown_in.items())},
        free=dict(sorted(recorder.free.items())),
        by_operator=recorder.by_operator,
        summed_products=dict(recorder.summed.macs),
    )


def families(count: Count) -> dict[str, int]:
    """The free operators of a count by family, for the ledger's summary."""
    gathered: Counter[str] = Counter()
    for name, times in count.free.items():
        gathered[FREE[name.removeprefix("aten::")]] += times
    return dict(sorted(gathered.items()))
