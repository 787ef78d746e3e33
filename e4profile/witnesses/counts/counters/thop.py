"""thop: it hooks the leaf modules that it knows by their class and runs the network once.

It adds the gates to the products of a recurrent layer, and counts a module that a network holds under several names
once for each pair of names and calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import PER_OUTPUT, Count, CounterSpec, LayerCount

if TYPE_CHECKING:
    from torch import nn


def count_thop(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``thop.profile``.

    Each layer's operations are listed under its class name, because thop has no finer account. Its parameters
    are its own too: it adds up the leaf modules that it knows.

    Raises:
        ImportError: when thop (or ``distutils``, which it needs) is not installed.
        Whatever the model or thop raises.
    """
    from thop import profile

    positions: dict[str, tuple[int, int]] = {}
    with _positions_noted(model, positions):
        _, _, account = profile(model, inputs=tuple(inputs), verbose=False, ret_layer_info=True)
    layers: list[LayerCount] = []

    def leaves(parts: dict[str, Any], module: nn.Module, path: str) -> None:
        for name, (operations, params, inner) in parts.items():
            below = f"{path}.{name}" if path else name
            child = module.get_submodule(name)
            if inner:
                leaves(inner, child, below)
            elif operations or params:
                kind = type(child).__name__
                made, given = positions.get(below, (1, 1))
                outputs = int(operations) - int(operations) * given // made
                amounts = {kind: int(operations) - outputs, PER_OUTPUT: outputs}
                amounts = {name: amount for name, amount in amounts.items() if amount}
                layers.append(LayerCount(below, kind, int(params), amounts))

    leaves(account, model, "")
    notes = ("parameters are thop's own: only leaf modules that it knows",)
    return Count(COUNTER.name, COUNTER.version or "", tuple(layers), raw=True, notes=notes)


@contextmanager
def _positions_noted(model: nn.Module, positions: dict[str, tuple[int, int]]) -> Iterator[None]:
    """Positions of output and input of each transposed convolution that runs.

    A product is made per position of the input, and thop charges one per position of the output.
    """
    from torch.nn.modules.conv import _ConvTransposeNd

    from e4profile.witnesses.walk import Call, Watcher, following

    class Positions(Watcher):
        def leave(self, call: Call) -> None:
            if call.output is not None:
                positions[call.path] = call.output[:, :1].numel(), call.inputs[0][:, :1].numel()

    with following(model, Positions(), only=[part for part in model.modules() if isinstance(part, _ConvTransposeNd)]):
        yield


COUNTER = CounterSpec("thop", "thop", count_thop, by_default=True)
