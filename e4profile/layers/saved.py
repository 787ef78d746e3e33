"""How a layer's table states what autograd keeps for backward: names with a meaning, and units.

A table ``saved`` counts elements per image, ``saved_constant`` elements whatever the batch (expanded filters,
norm statistics). The term ``input`` is the layer's input feature map itself and ``output`` its output map: a
network counts a feature map once, however many layers keep it. Parameters and buffers exist anyway and stand
in no table. The tables hold for training, with every parameter trainable.
"""

from __future__ import annotations

import torch

from e4profile.errors import UnknownNameError

INPUT = "input"
OUTPUT = "output"

COMPUTE = "compute"
ACCUMULATE = "accumulate"
STATISTICS = "statistics"
MASK = "mask"
INDEX = "index"
CONVERTED = "converted"
FLAG = "flag"
SPARE = "spare"

UNITS = {
    COMPUTE: "elements of the dtype that the network computes in (a term without a unit)",
    ACCUMULATE: "elements of the dtype that sums are kept in: at least float32",
    STATISTICS: "batch-norm statistics: at least float32, but on CPU as the norm's parameters",
    MASK: "dropout's multipliers: of the compute dtype, but a byte each on CUDA",
    INDEX: "int64 indices",
    CONVERTED: "elements of the compute dtype, converted from float64: no copy where it is float64",
    FLAG: "truth values, a byte each",
    SPARE: "of the dtype that sums are kept in, held by a storage beyond its tensor; on the meta device none",
}
"""Every unit that ``saved_as`` may give to a term."""


def unit_bytes(unit: str, dtype: torch.dtype, device: str = "cpu") -> int:
    """Bytes of one element of a unit.

    Args:
        unit: a name in ``UNITS``.
        dtype: the compute dtype; a network in bfloat16 has its parameters in bfloat16, too.
        device: device type: "cpu", "meta" or "cuda".

    Raises:
        UnknownNameError: for a unit that does not exist.
    """
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    if unit == INDEX:
        return torch.int64.itemsize
    if (unit == CONVERTED and dtype == torch.float64) or (unit == SPARE and device == "meta"):
        return 0
    if unit == FLAG or (unit == MASK and device == "cuda"):
        return 1
    if unit in (ACCUMULATE, SPARE) or (unit == STATISTICS and device != "cpu"):
        return max(torch.float32.itemsize, dtype.itemsize)
    return dtype.itemsize
