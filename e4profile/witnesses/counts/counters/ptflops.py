"""ptflops, default backend: it hooks modules whose class it knows, and replaces some functions besides.

A functional convolution is in neither list. Biases, norms, activations and pooling are charged per element. What a
module does by a function that is replaced, such as ``nn.ReLU`` or ``nn.MaxPool2d``, is charged twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import BIAS, Count, CounterSpec, layer_counts

if TYPE_CHECKING:
    from torch import nn

_ByPath = dict[str, Counter[str]]


def count_ptflops(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``ptflops.get_model_complexity_info``, for the whole batch.

    Operations of a module are listed by its class, those of its bias apart; those of a function by its name.

    Raises:
        ImportError: when ptflops is not installed.
        Whatever the model raises.
    """
    from ptflops import get_model_complexity_info
    from torch import nn

    by_path: _ByPath = {}
    added: _ByPath = {}
    raised: list[Exception] = []

    class Call(nn.Module):
        """The model with all of its inputs: ptflops makes a single one, and at the end drops what each module had."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Any:
            try:
                output = self.model(*inputs)
            except Exception as error:
                # ptflops prints it and returns None
                raised.append(error)
                raise
            for path, module in model.named_modules():
                if found := getattr(module, "__flops__", 0):
                    charged = by_path.setdefault(path, Counter())
                    charged[type(module).__name__] += found - sum(added.get(path, {}).values())
                    charged.update(added.get(path, {}))
            return output

    silent = {"print_per_layer_stat": False, "as_strings": False}
    with (
        _functions_listed(model, by_path),
        _additions_listed(model, added),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
    ):
        get_model_complexity_info(Call(), (1,), input_constructor=lambda _: {}, **silent)
    if raised:
        raise raised[0]
    return Count(COUNTER.name, COUNTER.version or "", layer_counts(model, by_path), raw=True)


@contextmanager
def _functions_listed(model: nn.Module, by_path: _ByPath) -> Iterator[None]:
    """List what ptflops charges for each function that it replaces, under the module that called it."""
    from ptflops.pytorch_ops import FUNCTIONAL_MAPPING, TENSOR_OPS_MAPPING

    from e4profile.witnesses.walk import following

    kept = [(table, dict(table)) for table in (FUNCTIONAL_MAPPING, TENSOR_OPS_MAPPING)]
    with following(model) as walk:

        def listed(name: str, rule: Callable[..., Any]) -> Callable[..., int]:
            def operations(*arguments: Any, **named: Any) -> int:
                found = int(rule(*arguments, **named))
                bias = arguments[0].numel() if name in ("addmm", "baddbmm") else 0
                by_path.setdefault(walk.path, Counter()).update({name: found - bias, BIAS: bias})
                return found

            return operations

        try:
            for table, rules in kept:
                table.update({function: listed(function.__name__, rule) for function, rule in rules.items()})
            yield
        finally:
            for table, rules in kept:
                table.update(rules)


@contextmanager
def _additions_listed(model: nn.Module, by_path: _ByPath) -> Iterator[None]:
    """List what ptflops adds to the products of a module: biases, gates of recurrent layers, softmax and scale."""
    from ptflops.pytorch_ops import MODULES_MAPPING

    from e4profile.witnesses.walk import Call, Watcher, following

    class Additions(Watcher):
        def leave(self, call: Call) -> None:
            if call.output is not None:
                found = _additions(call.module, call.inputs, call.output)
                by_path.setdefault(call.path, Counter()).update(found)

    with following(model, Additions(), only=[part for part in model.modules() if type(part) in MODULES_MAPPING]):
        yield


def _additions(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> dict[str, int]:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, (_ConvNd, nn.Linear)):
        return {BIAS: output.numel()} if module.bias is not None else {}
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        positions = arguments[0].numel() // arguments[0].shape[-1]
        layers, directions = getattr(module, "num_layers", 1), 1 + getattr(module, "bidirectional", False)
        runs = positions * layers * directions
        gates, operations = _GATES[type(module).__name__.removesuffix("Cell")]
        rows = gates * module.hidden_size
        return {BIAS: runs * 2 * rows * module.bias, "mul": runs * operations * module.hidden_size}
    if isinstance(module, nn.MultiheadAttention):
        images, queries, size = _batch_first(module, arguments[0])
        keys, values = (_batch_first(module, one)[1] for one in arguments[1:3])
        biases = (queries + keys + values) * size if module.in_proj_bias is not None else 0
        return {
            BIAS: images * (biases + queries * size),
            "mul": images * queries * size,
            "softmax": images * module.num_heads * queries * keys,
        }
    return {}


_GATES = {"RNN": (1, 1), "GRU": (3, 7), "LSTM": (4, 10)}
"""Rows of the weights and element-by-element operations, per hidden element and step."""


def _batch_first(module: Any, tokens: Any) -> tuple[int, int, int]:
    first, second, size = tokens.shape
    return (first, second, size) if module.batch_first else (second, first, size)


COUNTER = CounterSpec("ptflops", "ptflops", count_ptflops)
