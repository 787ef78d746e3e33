"""What a network weighs as a file, in training and in evaluation mode, and what it takes until its first output.

A network with expanded filters may have them in its state dict once it is in evaluation mode, as the buffers of a
steerable library, or beside it, as the caches of the layers here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from e4profile.errors import SettingError
from e4profile.layers.containers import trace
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.storages import STATISTICS
from e4profile.layers.terms import evaluate
from e4profile.subjects.as_found import as_found
from e4profile.subjects.copies import copied, materialised
from e4profile.subjects.subject import Subject

_COUNTER_BYTES = torch.int64.itemsize
"""Of the batches that a batch norm has seen."""


@dataclass(frozen=True)
class Files:
    """What one network weighs, in bytes and seconds.

    Attributes:
        state_bytes: tensors of the state dict in training mode, what is shared once.
        state_formula_bytes: the same by the layers' terms; None where a layer has none.
        eval_state_bytes: the same as ``state_bytes`` in evaluation mode, after a first forward.
        beside_bytes: buffers and expanded filters that no state dict has, in evaluation mode after a first forward.
        file_bytes: what ``torch.save`` writes of the state dict in evaluation mode.
        construct_s: from the builder's call to the network in evaluation mode; None for a finished module.
        first_forward_s: of the first call, at the network's own batch.
    """

    state_bytes: int
    state_formula_bytes: int | None
    eval_state_bytes: int
    beside_bytes: int
    file_bytes: int
    construct_s: float | None
    first_forward_s: float


def measure_files(subject: Subject) -> Files:
    """Build the network anew where that is possible, run it once and weigh it; the subject's own model is not touched.

    Raises:
        UserCodeError: for what a user-defined model raises.
    """
    built, construct_s = _constructed(subject)
    example = subject.example()
    with subject.guarded(), as_found(built), torch.no_grad():
        network = copied(built)
        started = time.perf_counter()
        network(*example.positional, **example.keywords)
        first_forward_s = time.perf_counter() - started
        evaluated = network.state_dict()
        eval_state_bytes, file_bytes = _bytes_of(evaluated.values()), _saved_bytes(evaluated)
        beside_bytes = _bytes_of([*network.buffers(), *_expanded(network), *evaluated.values()]) - eval_state_bytes
        state_bytes = _bytes_of(network.train().state_dict().values())
        by_terms = state_formula_bytes(materialised(built, example), example.single_shape)
    return Files(state_bytes, by_terms, eval_state_bytes, beside_bytes, file_bytes, construct_s, first_forward_s)


def state_formula_bytes(model: nn.Module, input_shape: tuple[int, ...] | None) -> int | None:
    """Bytes of the state dict by the layers' terms, without reading a tensor; None where a layer has none.

    Beside its parameters a batch norm has as many running statistics as it computes, and counts its batches.
    """
    if input_shape is None:
        return None
    try:
        _, steps = trace(model, input_shape)
    except SettingError:
        return None
    parameter, total = next(model.parameters(), None), 0
    bytes_per_element = 4 if parameter is None else parameter.element_size()
    for step in {id(step.module): step for step in steps}.values():
        values = step.dimensions
        kept, units = getattr(step.form, "saved_constant", {}), getattr(step.form, "saved_as", {})
        statistics = evaluate({name: term for name, term in kept.items() if units.get(name) == STATISTICS}, values)
        total += bytes_per_element * (sum(evaluate(step.form.params, values).values()) + sum(statistics.values()))
        total += _COUNTER_BYTES * sum(amount > 0 for amount in statistics.values())
    return total


def _constructed(subject: Subject) -> tuple[nn.Module, float | None]:
    """The network on the CPU, and the seconds that building it took; None for a module that is there already."""
    # what the builder's file imports is no construction
    model = subject.build("cpu")
    if not subject.is_rebuilt:
        return model, None
    fresh = subject.fresh()
    started = time.perf_counter()
    built = fresh.build("cpu")
    return built, time.perf_counter() - started


def _expanded(network: nn.Module) -> Iterable[Tensor]:
    for module in network.modules():
        if isinstance(module, FilterBankLayer):
            yield from module._cached_filters or ()


def _bytes_of(tensors: Iterable[object]) -> int:
    """Bytes of the tensors, those that share their memory once."""
    found = {
        (one.untyped_storage().data_ptr(), one.storage_offset(), tuple(one.shape)): one.nbytes
        for one in tensors
        if isinstance(one, Tensor) and one.numel()
    }
    return sum(found.values())


def _saved_bytes(state: dict[str, object]) -> int:
    class Counted(io.RawIOBase):
        written = 0

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            size = memoryview(data).nbytes  # type: ignore[arg-type]
            self.written += size
            return size

    sink = Counted()
    torch.save(state, sink)  # type: ignore[arg-type]
    return sink.written
