"""How a layer states the storages it makes: what autograd keeps of them for backward, and when each is made and freed.

A table ``saved`` counts elements kept per image, ``saved_constant`` elements kept whatever the batch (expanded
filters, norm statistics). The term ``input`` is the layer's input feature map itself and ``output`` its output map: a
network counts a feature map once, however many layers keep it. Parameters and buffers exist anyway and are in no table.

A ``Timeline`` is the layer's whole life in one training step. A step names what an operator makes, as elements of
the whole batch, and what is free once it is done. The peak is the maximum over steps of the sum of the storages
that are live then, each rounded up to the allocator's granularity. The input and the output's gradient exist before
and do not count; the output and the gradients of the input and the parameters live to the end. What depends on an
argument has a factor of 0 or 1: an indicator symbol, or ``several(n)``.

Both hold in training with every parameter trainable; the timelines on the CPU, for an input that needs a gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from e4profile.errors import SettingError, UnknownNameError
from e4profile.layers.terms import Term, Terms
from e4profile.symbols import least

INPUT = "input"
OUTPUT = "output"

COMPUTE = "compute"
ACCUMULATE = "accumulate"
STATISTICS = "statistics"
MASK = "mask"
INDEX = "index"
CONVERTED = "converted"
FLAG = "flag"

UNITS = {
    COMPUTE: "elements of the dtype that the network computes in (a term without a unit)",
    ACCUMULATE: "elements of the dtype that sums are kept in: at least float32",
    STATISTICS: "batch-norm statistics: at least float32, but on CPU as the norm's parameters",
    MASK: "dropout's multipliers: of the compute dtype, but a byte each on CUDA",
    INDEX: "int64 indices",
    CONVERTED: "elements of the compute dtype, converted from float64: no copy where it is float64",
    FLAG: "truth values, a byte each",
}
"""Every unit that ``saved_as`` may give to a term."""


def unit_bytes(unit: str, dtype: torch.dtype, device: str = "cpu") -> int:
    """Bytes of one element of a unit.

    Args:
        unit: a name in ``UNITS``.
        dtype: the compute dtype; a network in bfloat16 has its parameters in bfloat16, too.
        device: whose kernels are assumed: "cpu" or "cuda".

    Raises:
        UnknownNameError: for a unit that does not exist.
    """
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    if unit == INDEX:
        return torch.int64.itemsize
    if unit == CONVERTED and dtype == torch.float64:
        return 0
    if unit == FLAG or (unit == MASK and device == "cuda"):
        return 1
    if unit == ACCUMULATE or (unit == STATISTICS and device == "cuda"):
        return max(torch.float32.itemsize, dtype.itemsize)
    return dtype.itemsize


@dataclass(frozen=True)
class Step:
    """One operator: the storages it makes, by name, and those that are freed after it.

    A name may be made in several steps of which one at most makes elements in any setting, or each a storage alike.

    Attributes:
        name: what runs.
        makes: elements of the whole batch, by storage.
        frees: storages.
        when: the step exists where this is 1.
        halves: whether it exists for float16 and bfloat16 only (True), for wider dtypes only (False), or for all.
    """

    name: str
    makes: Terms = field(default_factory=dict)
    frees: tuple[str, ...] = ()
    when: Term = 1
    halves: bool | None = None


@dataclass(frozen=True)
class Timeline:
    """Forward and backward of a layer.

    Attributes:
        forward: steps in order.
        backward: steps in order, once the output's gradient is there.
        units: the unit of a storage (see ``UNITS``); one not named here is of the compute dtype.

    Raises:
        SettingError: when a step frees what no step before it makes.
    """

    forward: tuple[Step, ...]
    backward: tuple[Step, ...]
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made: set[str] = set()
        for _, step in self.steps:
            made |= set(step.makes)
            for name in step.frees:
                if name not in made:
                    raise SettingError(f"step {step.name!r} frees {name!r}, which no step before it makes")
        if unknown := set(self.units) - made:
            raise SettingError(f"units of {sorted(unknown)}, which no step makes")

    @property
    def steps(self) -> Iterator[tuple[str, Step]]:
        """All steps with their pass, "forward" or "backward"."""
        for name, steps in (("forward", self.forward), ("backward", self.backward)):
            for step in steps:
                yield name, step


def replaced(steps: Sequence[Step], names: Collection[str], by: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, of which those of some names make way for others where the first of them is.

    Of what only they make, nothing is there for later steps to free.
    """
    gone = [step for step in steps if step.name in names]
    first = steps.index(gone[0])
    nothing = Step(gone[0].name, {name: 0 for step in gone for name in step.makes})
    return (*steps[:first], nothing, *by, *(step for step in steps[first:] if step not in gone))


def timeline_rows(timeline: Timeline) -> list[dict[str, object]]:
    """One object per storage of every step, and one per step that makes none: for a layer's formula.

    Keys: ``pass``, ``step``, ``when`` (None for always, else an expression that is 0 or 1), ``halves`` (as in
    ``Step``), ``term`` and ``elements`` (None where a step only frees), ``unit`` and ``frees``.
    """
    return [
        {
            "pass": phase,
            "step": step.name,
            "when": None if step.when == 1 else step.when,
            "halves": step.halves,
            "term": name,
            "elements": elements,
            "unit": COMPUTE if name is None else timeline.units.get(name, COMPUTE),
            "frees": step.frees,
        }
        for phase, step in timeline.steps
        for name, elements in (step.makes.items() or ((None, None),))
    ]


def several(number: Term) -> Term:
    """1 where a number is greater than 1, else 0: PyTorch permutes and sums over a single element for nothing."""
    return least(1, number - 1)


def gathered(what: str, elements: Term, gradients: tuple[str, ...], when: Term = 1) -> tuple[Step, Step]:
    """The backward of a gather: the gradient's rows are added up into zeros, and then freed."""
    zeros = f"zeros for {what}"
    return (
        Step(zeros, {zeros: elements}, when=when),
        Step(f"add up {what}", {f"gradient of {what}": elements}, (zeros, *gradients), when=when),
    )


def folded(what: str, elements: Term, frees: tuple[str, ...], when: Term) -> Step:
    """The same where the convolution's backward does it itself, adding up in place and freeing at its end."""
    return Step(f"fold {what}", {f"gradient of {what}": elements}, frees, when=when)


def norm_timeline(elements: Term, statistics: Term, affine: Terms, unit: str | None = None) -> Timeline:
    """A norm as one operator, which keeps a mean and a deviation for each of its ``statistics``.

    Args:
        elements: of the map, for the whole batch.
        statistics: of each kind, for the whole batch where they are those of an image.
        affine: elements of the weight and the bias, by name.
        unit: of the statistics; None for the compute dtype.
    """
    return Timeline(
        forward=(Step("normalise", {"output": elements, "means": statistics, "deviations": statistics}),),
        backward=(
            Step(
                "normalise, backward",
                {"gradient of input": elements} | {f"gradient of {name}": size for name, size in affine.items()},
                ("means", "deviations"),
            ),
        ),
        units={} if unit is None else {"means": unit, "deviations": unit},
    )


BIAS_ROWS = "bias of each element"


def expanded_bias(present: Term, fields: Term, order: Term) -> Step:
    """One bias per field, copied to each of its group elements."""
    return Step("expand bias", {BIAS_ROWS: present * fields * order})


def bias_gradient(present: Term, fields: Term, order: Term) -> Terms:
    """What a convolution's backward makes for ``expanded_bias``."""
    return {f"gradient of {BIAS_ROWS}": present * fields * order}


def bias_sum(present: Term, fields: Term, order: Term) -> Step:
    """The gradient of the copies added up; of a single element it is the gradient itself."""
    made = {"gradient of bias": fields}
    return Step("add up bias", made, (f"gradient of {BIAS_ROWS}",), when=present * several(order))
