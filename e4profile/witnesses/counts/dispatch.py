"""Our counter: every operator that PyTorch dispatches, on the meta device, scoped by module, with a ledger.

On the meta device nothing is allocated and nothing is computed; only shapes flow. While the model is called,
meta tensors stand in place of its parameters and buffers.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.errors import SettingError, some_of
from e4profile.subjects.as_found import as_found, copied_tensor, device_of, meta_like
from e4profile.subjects.guest import first_sentence
from e4profile.subjects.inputs import Example
from e4profile.subjects.meta_outputs import run
from e4profile.subjects.refusals import refuse_unrun
from e4profile.subjects.told_device import ToldDevice
from e4profile.witnesses.beat import beat
from e4profile.witnesses.counts.base import Count, added, layer_counts
from e4profile.witnesses.counts.elementwise import ElementWork, element_work
from e4profile.witnesses.counts.ledger import FREE, Price, price_of
from e4profile.witnesses.counts.products import ComplexParts, Role, SummedProducts, role_of
from e4profile.witnesses.walk import Call, Walk, Watcher, following

_NOTHING_OF_ITS_OWN = torch._C._disabled_torch_dispatch_impl

_BODIES_ALONE = ("cond", "scan", "strict_mode", "invoke_subgraph")
"""Operators on functions that PyTorch refuses to run inside a recorder: what they call can run inside one."""


@dataclass(slots=True)
class _Known:
    """What is known of one operator overload: looked up once in a run."""

    name: str
    price: Price | None
    role: Role
    decomposes: bool
    work: ElementWork | None
    free: int = 0
    unknown: int = 0


class _Recorder(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, walk: Walk, told: ToldDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.walk = walk
        self.told = told
        # the modules that say how their products count
        self.saying = {
            module for module in walk.paths if hasattr(module, "operation_kind") or hasattr(module, "counts_products")
        }
        self.known: dict[Any, _Known] = {}
        self.by_operator: dict[str, dict[str, dict[str, int]]] = {}
        self.elements: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.unknown_in: dict[str, dict[str, None]] = {}
        self.bodies_unseen: Counter[str] = Counter()
        self.complex_parts = ComplexParts()
        self.summed = SummedProducts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if types and any(one.__torch_dispatch__ is not _NOTHING_OF_ITS_OWN for one in types):
            # a subclass that says what its operators are made of: those are counted
            return NotImplemented
        if isinstance(func, HigherOrderOperator):
            return self._through_its_body(func, args, keywords)
        known = self.known.get(func) or self._look_up(func)
        if known.decomposes and torch.is_inference_mode_enabled():
            # a forward that enters inference mode hides what an operator is made of: take it apart as PyTorch would
            with self:
                return func.decompose(*args, **keywords)
        if self.told.was_read or "device" in keywords:
            args, keywords = self.told.on_meta(known.name, args, keywords)
        out = run(func, args, keywords)
        path, price = self.walk.path, known.price
        amounts = None if price is None else price(args, keywords, out, self._scope())
        times = self.complex_parts.products(known.name, args, out)
        if amounts and times > 1:
            amounts = {kind: amount * times for kind, amount in amounts.items()}
        self.summed.see(known.role, args, out, path, charged=bool(amounts))
        # a product of elements that is charged as MACs is not counted twice
        work = known.work
        if work is not None and not (amounts and known.name == "aten::mul"):
            if work.add is None:
                counted = out if not work.of_input else args[0] if args else next(iter(keywords.values()))
                self.elements[path][work.kind] += counted.numel()
            else:
                work.add(self.elements[path], args, out, self.walk)
        if amounts is None:
            known.unknown += 1
            self.unknown_in.setdefault(known.name, {})[path] = None
        elif amounts:
            here = self.by_operator.setdefault(path, {}).setdefault(known.name, {})
            for kind, amount in amounts.items():
                here[kind] = here.get(kind, 0) + amount
        else:
            known.free += 1
        return out

    def _through_its_body(self, func: HigherOrderOperator, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """Run what an operator on functions does with them, as often as its inputs say."""
        eager = func.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
        if eager is None:
            name = func.name()
            self.unknown_in.setdefault(name, {})[self.walk.path] = None
            self.bodies_unseen[name] += 1
            return func(*args, **keywords)
        if func.name() in _BODIES_ALONE:
            return eager(*(self._followed(value) for value in args), **keywords)
        with self:
            return eager(*args, **keywords)

    def _followed(self, value: Any) -> Any:
        if not callable(value):
            return value

        def body(*operands: Any) -> Any:
            with self:
                return value(*operands)

        return body

    @property
    def by_path(self) -> dict[str, dict[str, int]]:
        """Operations by module and kind."""
        return {path: added(*operators.values()) for path, operators in self.by_operator.items()}

    def times(self, outcome: str) -> dict[str, int]:
        """How often operators ran as ``free`` or ``unknown``, by name."""
        found = Counter(self.bodies_unseen if outcome == "unknown" else ())
        for known in self.known.values():
            found[known.name] += getattr(known, outcome)
        return {name: times for name, times in sorted(found.items()) if times}

    def _look_up(self, func: Any) -> _Known:
        price = price_of(func)
        known = self.known[func] = _Known(
            func._overloadpacket._qualified_op_name, price, role_of(func), price is None and func._can_decompose(),
            element_work(func),
        )  # fmt: skip
        return known

    def _scope(self) -> nn.Module | None:
        if not self.saying or self.walk.running is None:
            return None
        return next((call.module for call in self.walk.running if call.module in self.saying), None)


class _Outputs(Watcher):
    """The shapes that each module returned, in the order of its calls."""

    def __init__(self) -> None:
        self.shapes: dict[str, dict[str, None]] = {}

    def leave(self, call: Call) -> None:
        """Keep the shapes, not the tensors."""
        beat()
        returned = Example((call.output,), {}).tensors
        text = ", ".join("x".join(map(str, one.shape)) or "scalar" for one in returned if not one.is_nested)
        if text:
            self.shapes.setdefault(call.path, {})[text] = None

    @property
    def texts(self) -> dict[str, str]:
        """By module; what differs from call to call stands behind a semicolon."""
        return {path: some_of(list(shapes), "; ", most=3) for path, shapes in self.shapes.items()}


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Let PyTorch's transformer layers run as they are written: their fused operator hides its products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Let functions that were to be compiled run as they are written: a compiled one hides its operators."""
    compiler = getattr(torch.compiler, "set_stance", None)
    loaded = "torch._dynamo.eval_frame" in sys.modules or "torch.nn.attention.flex_attention" in sys.modules
    with compiler("force_eager") if compiler and loaded else nullcontext():
        yield


def _refuse_on_meta(tensors: Iterable[Tensor]) -> None:
    """Refuse tensors whose products cost what their values say, which the meta device does not have.

    Raises:
        SettingError: for a sparse, nested or quantised tensor, or a subclass with operators of its own.
    """
    for tensor in tensors:
        own = type(tensor).__torch_dispatch__ not in (Tensor.__torch_dispatch__, _NOTHING_OF_ITS_OWN)
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or own:
            kind = "a nested tensor" if tensor.is_nested else f"a {type(tensor).__name__} of layout {tensor.layout}"
            raise SettingError(f"{kind} has no size on the meta device that says what its products cost")


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="meta", requires_grad=value.requires_grad)
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
    watchers: Sequence[Watcher] = (),
) -> Count:
    """Count what one forward pass executes.

    Args:
        model: any module; left as it was found, also when its forward raises.
        inputs: positional inputs; tensors are replaced by meta tensors of the same shape.
        keywords: keyword inputs, in the same form.
        training: count in training mode instead of evaluation mode.
        on_meta: False runs the model for real on its own device, for a model that cannot run on meta.
        watchers: told of every module that runs, for other accounts of the same run.

    Raises:
        SettingError: for a forward that returns a generator or a coroutine, whose body has not run.
        Whatever the model's forward raises.
    """
    arguments, named = tuple(inputs), dict(keywords or {})
    if on_meta:
        _refuse_on_meta((*model.parameters(), *model.buffers(), *Example(arguments, named).tensors))
    told, outputs = ToldDevice(device_of(model) if on_meta else None), _Outputs()
    with (
        # inference mode would hide an operator that is made of others
        torch.inference_mode(False),
        torch.no_grad(),
        as_found(model, meta_like if on_meta else copied_tensor, training=training),
        _unfused_attention(),
        _uncompiled(),
        following(model, *watchers, outputs) as walk,
    ):
        if on_meta:
            arguments, named = _on_meta(arguments), _on_meta(named)
        with told.seen(), _Recorder(walk, told) as recorder:
            refuse_unrun(model(*arguments, **named))
    return Count(
        "dispatch",
        torch.__version__,
        layer_counts(model, recorder.by_path),
        elements={path: dict(amounts) for path, amounts in recorder.elements.items()},
        classes={path: module.__class__.__name__ for module, path in walk.paths.items()},
        uncounted=recorder.times("unknown"),
        uncounted_in={name: tuple(paths) for name, paths in sorted(recorder.unknown_in.items())},
        free=recorder.times("free"),
        by_operator=recorder.by_operator,
        summed_products=dict(recorder.summed.macs),
        outputs=outputs.texts,
    )


W = TypeVar("W", bound=Watcher)


def count_run(
    model: nn.Module, example: Example, watcher: Callable[[], W], *, training: bool = False
) -> tuple[Count, W, tuple[str, ...]]:
    """Count one call, on the meta device or, where a model cannot run there, for real; it is left as it was found.

    Args:
        model: on any device.
        example: its inputs.
        watcher: makes one that is told of every module in the run that counts.
        training: count in training mode instead of evaluation mode.

    Returns:
        The count, the watcher, and a note where it ran for real.

    Raises:
        Whatever the model's forward raises.
    """
    try:
        seen = watcher()
        counted = count_dispatch(model, example.positional, example.keywords, training=training, watchers=(seen,))
    except Exception as error:
        # what is wrong for real raises again below, with the values that the message is about
        device = device_of(model)
        if device.type == "meta":
            raise
        reason = first_sentence(error)
    else:
        return counted, seen, ()
    inputs, seen = example.copied(device), watcher()
    counted = count_dispatch(
        model, inputs.positional, inputs.keywords, training=training, on_meta=False, watchers=(seen,)
    )
    return counted, seen, (f"run for real on {device}, because it cannot run on the meta device ({reason})",)


def families(count: Count) -> dict[str, int]:
    """The free operators of a count by family, for the ledger's summary."""
    gathered: Counter[str] = Counter()
    for name, times in count.free.items():
        # a formula may charge nothing, for a distance without products
        gathered[FREE.get(name.removeprefix("aten::"), "element by element")] += times
    return dict(sorted(gathered.items()))
