"""calflops: it replaces functions of PyTorch by ones that count, and reports their MACs.

Norms, activations, pooling and biases are FLOPs there and no MACs. Recurrent layers, ``einsum``, ``bmm`` and the
fused attention have no MACs in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from e4profile.witnesses.counts.base import Count, CounterSpec, Known, layer_counts

if TYPE_CHECKING:
    from torch import nn


def count_calflops(model: nn.Module, inputs: Sequence[Any]) -> Count:
    """Count with ``calflops.calculate_flops``; operations are its MACs, by the class of the module that ran them.

    Raises:
        ImportError: when calflops is not installed.
        Whatever the model or calflops raises.
    """
    from calflops import calculate_flops
    from calflops.calculate_pipline import module_flop_count, module_mac_count
    from torch import nn

    by_path: dict[str, dict[str, int]] = {}

    class Call(nn.Module):
        """The model, read before calflops drops what each module had."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *arguments: Any) -> Any:
            output = self.model(*arguments)
            for path, module in model.named_modules():
                by_path[path] = {type(module).__name__: int(getattr(module, "__macs__", 0))}
            return output

    try:
        calculate_flops(Call(), args=list(inputs), print_results=False, output_as_string=False)
    finally:
        # where the model raised, the next count would start with what is left in these
        module_flop_count.clear()
        module_mac_count.clear()
    return Count(COUNTER.name, COUNTER.version or "", layer_counts(model, by_path), raw=True)


def _twice_divided(layer: str, reported: int, ran: int) -> bool:
    return layer.startswith("ConvTranspose") and ran % reported == 0


COUNTER = CounterSpec(
    "calflops", "calflops", count_calflops,
    known=(Known("groups of transposed convolutions divided twice", _twice_divided),),
)  # fmt: skip
