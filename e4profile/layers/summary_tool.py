"""Containers that say what a published summary tool charges beyond what runs.

The tables of Lengyel & van Gemert 2021 come from torchinfo as it was in 2021, called by the released code. It
looked at every module, containers included, and at every parameter below it whose name holds "weight": a
convolution was charged weight elements x output positions, anything else its weight elements. So a norm was
charged its affine weights, and every container around a layer was charged that layer's weights once more. A
container here runs as a plain ``Chain`` and adds those charges as terms of their own kinds, which weigh 0 in
``macs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from e4profile.conventions import BELOW_DEPTH, CONTAINER_WEIGHT, NORM_KINDS, NORM_WEIGHT
from e4profile.layers.base import Cost, Dimensions, Shape
from e4profile.layers.containers import Chain, Step
from e4profile.layers.terms import Terms
from e4profile.symbols import N_inside, Q_inside, W_inside


class ChargedChain(Chain):
    """A ``Chain`` that is itself a step of the closed form, without parameters or MACs of its own.

    The tool counts one image, so the charges are per image as all terms are.
    """

    params: ClassVar[Terms] = {}
    macs: ClassVar[Terms] = {}
    elements: ClassVar[Terms] = {}
    kinds: ClassVar[Mapping[str, str]] = {}
    printed: ClassVar[Mapping[str, Sequence[str]]] = {"params": (), "macs": ()}

    def trace(self, input_shape: Shape, path: str) -> tuple[Shape, list[Step]]:
        """The output shape; the layers inside in order of execution, then the container's own charges."""
        output_shape, steps = super().trace(input_shape, path)
        return output_shape, [*steps, Step(path, self, self, input_shape)]

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, ...) -> (B, ...)."""
        return super().trace(input_shape, "")[0]

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """What is inside, from the layers' own terms: weights, norm weights and charged convolution MACs."""
        costs = list(self._costs_inside((1, *input_shape[1:])))
        norms = [cost for cost in costs if any(kind in NORM_KINDS for kind in cost.kinds.values())]
        return {
            W_inside: sum(_weights(cost) for cost in costs),
            N_inside: sum(_weights(cost) for cost in norms),
            Q_inside: sum(cost.total("weights-at-output") for cost in costs),
        }

    def _costs_inside(self, input_shape: Shape) -> Iterator[Cost]:
        for step in super().trace(input_shape, "")[1]:
            if not isinstance(step.module, ChargedChain):
                yield step.cost


def _weights(cost: Cost) -> int:
    return sum(amount for term, amount in cost.params.items() if "weight" in term)


class CountedAgain(ChargedChain):
    """A container whose weights the tool counts once more: a block, a stage, a separable pair.

    Shapes: those of its parts, one after another.
    """

    elements: ClassVar[Terms] = {"weights counted again": W_inside}
    kinds: ClassVar[Mapping[str, str]] = {"weights counted again": CONTAINER_WEIGHT}


class BelowDepth(CountedAgain):
    """A container at the third level: counted again itself, while a tool that stops there misses its parts.

    Shapes: those of its parts, one after another.
    """

    elements: ClassVar[Terms] = {
        **CountedAgain.elements,
        "convolutions below depth 3": -Q_inside,
        "norm weights below depth 3": -N_inside,
    }
    kinds: ClassVar[Mapping[str, str]] = {
        **CountedAgain.kinds,
        "convolutions below depth 3": BELOW_DEPTH,
        "norm weights below depth 3": BELOW_DEPTH,
    }


class CountedNorms(ChargedChain):
    """A whole network, whose norms the tool charges one per affine weight.

    Shapes: those of its parts, one after another.
    """

    elements: ClassVar[Terms] = {"norm weights": N_inside}
    kinds: ClassVar[Mapping[str, str]] = {"norm weights": NORM_WEIGHT}
