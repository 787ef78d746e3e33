"""Asking a stock counter, raw: what its users would get. The model and the process are left as they were found."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from e4profile.subjects.as_found import as_found, device_of, one_thread, set_mode
from e4profile.subjects.copies import copied
from e4profile.subjects.guest import first_line
from e4profile.subjects.inputs import Example
from e4profile.witnesses.beat import beat
from e4profile.witnesses.counts import NOT_RUN
from e4profile.witnesses.counts.base import Count, CounterSpec
from e4profile.witnesses.counts.registry import find_counters

_REAL_RUN_MACS = 10**11
_REAL_RUN_PARAMS = 2 * 10**8
_PATCHED = (functional, torch, torch.Tensor)


def count_stock(name: str, model: nn.Module, inputs: Sequence[Any], **keywords: Any) -> Count:
    """Count with one stock counter on a copy of the model, in evaluation mode and without gradients.

    What the counter warns of is dropped, and the functions of PyTorch that it replaced are put back.

    Args:
        name: of a stock counter in the registry.
        model: on the device where it runs.
        inputs: positional, on the same device.
        keywords: by name, for a counter that takes them.

    Raises:
        UnknownNameError: for a name that no counter has.
        ImportError: when the counter is not installed.
        Whatever the model or the counter raises.
    """
    (spec,) = find_counters([name])
    assert spec.count is not None
    with ExitStack() as kept:
        kept.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for context in (_functions_kept(), as_found(model), torch.no_grad()):
            kept.enter_context(context)
        twin = copied(model)
        set_mode(twin, training=False)
        return spec.count(twin, tuple(inputs), **keywords)


def ask(
    stock: Sequence[CounterSpec], real: Callable[[], nn.Module], example: Example, dispatch: Count
) -> tuple[dict[str, Count], dict[str, str]]:
    """What stock counters report, and why some report nothing, by name.

    Args:
        stock: the counters to ask.
        real: gives the model on a real device, for the counters run it.
        example: inputs of one call.
        dispatch: the dispatch counter's account of the same call, which says how large it is.
    """
    raw: dict[str, Count] = {}
    failures: dict[str, str] = {}
    runnable = functools.cache(real)
    for spec in stock:
        beat()
        if spec.version is None:
            failures[spec.name] = f"{spec.package} is not installed: pip install {spec.package}"
            continue
        # whatever a stock counter raises belongs in its own column, where the reader sees it
        try:
            with one_thread():
                raw[spec.name] = _count_for_real(spec, runnable, example, dispatch)
        except _NotAskedError as reason:
            failures[spec.name] = str(reason)
        except Exception as error:
            failures[spec.name] = first_line(error)
    return raw, failures


class _NotAskedError(Exception):
    """Why a counter was not asked."""


def _count_for_real(spec: CounterSpec, real: Callable[[], nn.Module], example: Example, dispatch: Count) -> Count:
    if dispatch.macs > _REAL_RUN_MACS or dispatch.params > _REAL_RUN_PARAMS:
        raise _NotAskedError(
            f"{NOT_RUN}: it executes the real network, and {dispatch.params:,} parameters with {dispatch.macs:,} MACs "
            f"are beyond its limit here ({_REAL_RUN_PARAMS:,} and {_REAL_RUN_MACS:,})"
        )
    model = real()
    device = device_of(model)
    given = example.map(lambda tensor: _real(tensor, device))
    if spec.keywords:
        return count_stock(spec.name, model, given.positional, **given.keywords)
    inputs = given.in_order(model.forward)
    if inputs is None:
        raise _NotAskedError("it takes positional inputs only, and forward takes some by keyword only")
    return count_stock(spec.name, model, inputs)


def _real(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return (
        torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
        if tensor.is_meta
        else tensor.detach().clone().to(device)
    )


@contextmanager
def _functions_kept() -> Iterator[None]:
    """Put back the functions of PyTorch that a counter replaced, also where it raised before it could."""
    before = [(owner, dict(vars(owner))) for owner in _PATCHED]
    try:
        yield
    finally:
        for owner, entries in before:
            for name, value in list(vars(owner).items()):
                if name in entries and entries[name] is not value and callable(value):
                    setattr(owner, name, entries[name])
                elif name not in entries and owner is torch.Tensor and hasattr(torch._C.TensorBase, name):
                    # replaced where it was inherited
                    delattr(owner, name)
