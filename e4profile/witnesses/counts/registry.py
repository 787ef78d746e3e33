"""The registry of counters: the two exact ones, and every file in ``counters/``.

A new stock counter is one new file there. Nothing here imports a counter's library, nor PyTorch.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module

from e4profile.errors import one_of
from e4profile.witnesses.counts import counters
from e4profile.witnesses.counts.base import CounterSpec


def _registered() -> dict[str, CounterSpec]:
    exact = (
        CounterSpec("closed-form", "e4profile", title="closed form", by_default=True),
        CounterSpec("dispatch", "torch", by_default=True),
    )
    files = (import_module(f"{counters.__name__}.{file.name}") for file in pkgutil.iter_modules(counters.__path__))
    stock = sorted((file.COUNTER for file in files), key=lambda spec: spec.name)
    return {spec.name: spec for spec in (*exact, *stock)}


REGISTRY = _registered()
"""Every counter by the name that the command line and the library use: the exact ones first."""

COUNTERS = tuple(spec.name for spec in REGISTRY.values() if spec.by_default)
"""The counters that are asked by default."""

STOCK = tuple(name for name in COUNTERS if REGISTRY[name].raw)
"""The stock counters among them: what they report is their own."""


def find_counters(names: Iterable[str]) -> list[CounterSpec]:
    """The counters of these names, in order.

    Raises:
        UnknownNameError: for a name that no counter has.
    """
    return [REGISTRY[one_of("counter", name, REGISTRY)] for name in names]
