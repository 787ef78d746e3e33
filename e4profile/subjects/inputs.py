"""What a user-defined model is called with: input specifications, and examples made from them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError, UnknownNameError, positive
from e4profile.subjects.named import split_outside
from e4profile.subjects.written import plain_value

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "int64", "int32", "uint8", "bool")

_SPEC = re.compile(r"(?P<shape>[0-9]{1,40}(?:x[0-9]{1,40})*|scalar)(?::(?P<dtype>\w+))?")


_ADDRESSABLE_BYTES = 2**63 - 1


def memory_bytes() -> int:
    """The memory of this machine; as much as can be addressed where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _ADDRESSABLE_BYTES


@dataclass(frozen=True)
class InputSpec:
    """One input: a tensor's shape and dtype, or a plain value.

    Attributes:
        name: empty for a positional input; dots reach into dicts (``batch.image``) and tuples (``pair.0``).
        shape: of the tensor, with the batch; None for a plain value.
        dtype: a name of ``DTYPES``; None takes the model's own floating dtype.
        value: the plain value where there is no shape.
    """

    name: str = ""
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    value: Any = None

    def make(self, default: torch.dtype, generator: torch.Generator, device: torch.device | None = None) -> Any:
        """The input: normal random numbers, zeros for integers (valid indices), ones for bool.

        Numbers are made on the CPU; on the meta device there are none.
        """
        import torch

        if self.shape is None:
            return self.value
        dtype: torch.dtype = default if self.dtype is None else getattr(torch, self.dtype)
        self._check_size(dtype.itemsize, on_meta=device is not None and device.type == "meta")
        if device is not None and device.type == "meta":
            return torch.empty(self.shape, dtype=dtype, device=device)
        made = self._made(dtype, generator)
        return made if device is None else made.to(device)

    def _check_size(self, item_bytes: int, *, on_meta: bool) -> None:
        """Refuse a tensor that no memory here holds: asked for it, the system may end the program instead.

        Raises:
            SettingError: naming its bytes.
        """
        needed = item_bytes * math.prod(self.shape or ())
        limit = _ADDRESSABLE_BYTES if on_meta else memory_bytes()
        if needed > limit:
            raise SettingError(
                f"--input {self}: the tensor needs {needed / 2**40:,.3g} TiB, more than the {limit / 2**40:,.3g} TiB "
                + ("that a tensor can have" if on_meta else "of this machine's memory")
            )

    def _made(self, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        import torch

        assert self.shape is not None
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(self.shape, generator=generator, dtype=torch.float32, device="cpu").to(dtype)
        return torch.full(self.shape, int(dtype is torch.bool), dtype=dtype, device="cpu")

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}:={self.value!r}"
        sizes = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.name}{'=' if self.name else ''}{sizes}{':' + self.dtype if self.dtype else ''}"


def parse_input(text: str) -> InputSpec:
    """One ``--input``.

    ``1x3x32x32`` is a tensor with its batch, ``image=1x3x32x32`` a keyword, ``mask=1x1x32x32:bool`` one of
    another dtype, ``t=scalar`` a tensor without dimensions, ``steps:=4`` a plain TOML value.

    Raises:
        SettingError: for anything else.
        UnknownNameError: for an unknown dtype.
    """
    name, assigned, rest = text.partition("=")
    if not assigned:
        name, rest = "", text
    if name.endswith(":") and len(name) > 1:
        try:
            return InputSpec(name[:-1], value=plain_value(rest))
        except RecursionError:
            raise SettingError(f"--input: the value of {name[:-1]} is nested too deeply") from None
    match = _SPEC.fullmatch(rest)
    if match is None or (assigned and not name.strip(":")):
        raise SettingError(
            f"--input: {text!r} must be a shape with the batch such as 1x3x32x32, image=1x3x32x32, "
            "mask=1x1x32x32:bool, or a plain value such as steps:=4"
        )
    dtype = match["dtype"]
    if dtype is not None and dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    shape = () if match["shape"] == "scalar" else tuple(int(size) for size in match["shape"].split("x"))
    if 0 in shape:
        raise SettingError(f"--input: {text!r}: every size must be positive")
    return InputSpec(name, shape, dtype)


def parse_inputs(texts: Sequence[str]) -> list[InputSpec]:
    """Several ``--input``, each of which may hold several with commas between: ``1x3x32x32,mask=1x1x32x32:bool``.

    Raises:
        SettingError: also for sizes with commas between, ``1,3,32,32``, which would be four inputs.
        UnknownNameError: for an unknown dtype.
    """
    found: list[InputSpec] = []
    for text in texts:
        parts = split_outside(text, ",")
        if len(parts) > 1 and any(part.isdecimal() for part in parts):
            meant = "x".join(parts) if all(map(str.isdecimal, parts)) else "1x3x32x32,mask=1x32x32"
            raise SettingError(f"--input: {text!r}: commas divide inputs; write sizes with x, as {meant}")
        found += map(parse_input, parts)
    return found


def with_batch(specs: Sequence[InputSpec], batch_size: int) -> list[InputSpec]:
    """The same inputs for another batch: the leading size of every tensor replaced.

    Raises:
        SettingError: when the leading sizes differ, so that they are not all a batch, or there is none.
    """
    positive(batch_size=batch_size)
    leading = {spec.shape[0] for spec in specs if spec.shape}
    if specs and not leading:
        given = ", ".join(map(str, specs))
        raise SettingError(f"--batch-size (={batch_size}) has no tensor to act on: the inputs are {given}")
    if len(leading) > 1:
        raise SettingError(
            f"--batch-size: the inputs have different leading sizes ({', '.join(map(str, specs))}); give the batch in "
            "every --input instead"
        )
    return [replace(spec, shape=(batch_size, *spec.shape[1:])) if spec.shape else spec for spec in specs]


@dataclass(frozen=True)
class Example:
    """The inputs of one call: positional ones, then keywords. Tensors may stand inside dicts and tuples."""

    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor, in order."""
        return list(_tensors((self.positional, self.keywords)))

    @property
    def single_shape(self) -> tuple[int, ...] | None:
        """The shape where the only input is one tensor; None otherwise."""
        only = self.tensors
        if len(only) != 1 or len(self.positional) + len(self.keywords) != 1:
            return None
        value = next(iter((*self.positional, *self.keywords.values())))
        return tuple(only[0].shape) if value is only[0] and not only[0].is_nested else None

    def fresh(self) -> Example:
        """The same tensors in containers of their own, for a forward that takes things out of its inputs."""
        if any(isinstance(value, (Mapping, list, tuple)) for value in (*self.positional, *self.keywords.values())):
            return self.map(lambda tensor: tensor)
        return self

    def copied(self, device: torch.device | None = None) -> Example:
        """Copies of the tensors, leaves on a device or where they are, for a forward that writes to its inputs."""
        return self.map(lambda one: one.detach().clone().to(device or one.device).requires_grad_(one.requires_grad))

    def map(self, change: Callable[[Tensor], Any]) -> Example:
        """The same inputs with every tensor changed."""
        return Example(_mapped(self.positional, change), _mapped(dict(self.keywords), change))

    def in_order(self, forward: Callable[..., Any]) -> tuple[Any, ...] | None:
        """Every input as a positional one, or None where ``forward`` cannot take them so."""
        if not self.keywords:
            return self.positional
        try:
            bound = signature(forward).bind(*self.positional, **self.keywords)
        except (TypeError, ValueError):
            return None
        return None if bound.kwargs else bound.args

    def __str__(self) -> str:
        keywords = (f"{name}={_words(value)}" for name, value in self.keywords.items())
        return ", ".join((*map(_words, self.positional), *keywords)) or "no inputs"


def example_from_specs(
    specs: Sequence[InputSpec], default: torch.dtype, seed: int = 0, device: torch.device | None = None
) -> Example:
    """Make the inputs on a device, or on the CPU; the same seed gives the same numbers.

    Raises:
        SettingError: for a name that is given twice.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for spec in specs:
        value = spec.make(default, generator, device)
        if not spec.name:
            positional.append(value)
            continue
        *outer, last = spec.name.split(".")
        table = keywords
        for part in outer:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise SettingError(f"--input {spec.name}: {part} is already an input, so it cannot hold {last}")
        if last in table:
            raise SettingError(f"--input {spec.name}: given twice")
        table[last] = value
    return Example(tuple(positional), {name: _tupled(value) for name, value in keywords.items()})


def as_example(inputs: Any, default: torch.dtype) -> Example:
    """Inputs of a library call as an example.

    Args:
        inputs: an ``Example``; a shape with the batch; a tensor; a dict of keyword inputs; or a sequence of
            positional inputs, each of them a shape or a tensor.
        default: the dtype of tensors made from a shape.

    Raises:
        SettingError: for anything else.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(0)

    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value
        if _is_shape(value):
            return InputSpec(shape=tuple(int(size) for size in value)).make(default, generator)
        if isinstance(value, Mapping):
            return {key: one(item) for key, item in value.items()}
        if isinstance(value, Iterator):
            raise SettingError(
                f"an input is a {type(value).__name__}, which can be read only once, but the model runs several "
                "times: give a list or tensors"
            )
        return value

    if isinstance(inputs, Example):
        return inputs
    if isinstance(inputs, torch.Tensor) or _is_shape(inputs):
        return Example((one(inputs),))
    if isinstance(inputs, Mapping):
        return Example((), {str(name): one(value) for name, value in inputs.items()})
    if isinstance(inputs, Sequence) and not isinstance(inputs, str):
        return Example(tuple(one(value) for value in inputs))
    raise SettingError(
        f"input_shape (={inputs!r}) must be a shape such as (1, 3, 32, 32), a tensor, a dict of keyword inputs, or "
        "a sequence of shapes and tensors"
    )


def _is_shape(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    sizes = [size for size in value if hasattr(size, "__index__") and not isinstance(size, bool)]
    return len(sizes) == len(value) and all(not hasattr(size, "shape") for size in sizes) and math.prod(value) > 0


def _tupled(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _tupled(item) for name, item in value.items()}
    if sorted(inner) == [str(index) for index in range(len(inner))] and len(inner) <= 10:
        return tuple(inner[str(index)] for index in range(len(inner)))
    return inner


def _tensors(value: Any) -> Iterator[Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _words(value: Any) -> str:
    shapes = ["nested" if tensor.is_nested else str(tuple(tensor.shape)) for tensor in _tensors(value)]
    if not shapes:
        return repr(value)
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"
