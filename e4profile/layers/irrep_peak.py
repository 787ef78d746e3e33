"""The storages of a convolution in the irrep basis on the CPU, from sizes alone: those of its steps among them.

A step takes some images: their padded maps, the coefficients of input and output, and sums in between. How many images
these are follows from the sizes, the dtype and the number of threads that share a sum (``ops.irrep_planes``). Where the
last step holds fewer images than the others, its storages are made while theirs are still there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from e4profile.layers.base import Shape
from e4profile.layers.storages import ACCUMULATE, BIAS_ROWS, INDEX, Step, Timeline
from e4profile.ops import irrep_planes, irreps
from e4profile.ops.irrep_basis import Window


@dataclass(frozen=True)
class IrrepStorages:
    """A convolution in the irrep basis as one step of autograd, of which everything needs a gradient.

    Attributes:
        window: the convolution.
        fields: input and output fields.
        input_shape: (B, c_in * A, h, w), contiguous.
        dtype: of input and weight.
        of: what the names of storages and steps end with.
    """

    window: Window
    fields: tuple[int, int]
    input_shape: Shape
    dtype: torch.dtype
    of: str = ""

    @property
    def units(self) -> dict[str, str]:
        """Of the sums over steps: halves are added in float32."""
        return {f"sums of gradients{self.of}": ACCUMULATE, f"places of cosets{self.of}": INDEX}

    def forward(self, output: str) -> tuple[Step, ...]:
        """From a weight to the output, by its name; what is made on the way is freed."""
        given, result = f"input by coset{self.of}", f"output by coset{self.of}" if self._cosets else output
        steps, live = self._images("multiply", {result: self._output})
        done = (given, f"filters of irreps{self.of}", *live, *({result} - {output}))
        return (
            *self._make_filters(),
            self._by_coset("input", {given: 0 if self.window.lifts else math.prod(self.input_shape)}),
            *steps,
            self._by_coset("output", {output: self._output if self._cosets else 0}),
            Step(f"return{self.of}", {}, done),
        )

    def backward(self, of_input: str, of_weight: str, gradient: tuple[str, ...] = ()) -> tuple[Step, ...]:
        """From the output's gradient, which is freed if it has a name, to the gradients of input and weight."""
        filters, sums, spare, narrow = (
            f"{one}{self.of}" for one in ("filters of irreps", "sums of gradients", "gradients of a step", "gradients")
        )
        apart, size = self._cosets and not self.window.lifts, math.prod(self.input_shape)
        given, upstream = f"input by coset{self.of}", f"gradient by coset{self.of}"
        result = f"gradient of input by coset{self.of}" if apart else of_input
        steps, live = self._images("multiply, backward", {result: size}, sums, spare)
        taps, pairs = self._weight
        by_tap = f"gradient by tap{self.of}" if min(taps, pairs) > 1 else of_weight
        inside = (given, upstream, *({result} - {of_input}), spare, *live)
        return (
            *self._make_filters(),
            self._by_coset("input", {given: size * apart}),
            self._by_coset("gradient", {upstream: self._output}),
            *steps,
            self._by_coset("gradient of input", {of_input: size * apart}),
            *self._of_irreps("narrow gradients", narrow, halves=True),
            Step(f"narrow gradients{self.of}", {}, (sums,), halves=True),
            Step(f"gradients are summed{self.of}", {}, inside),
            Step(f"turn gradients{self.of}", {by_tap: taps * pairs, **self._between}, tuple(self._between)),
            Step(f"gradient of weight{self.of}", {of_weight: taps * pairs} if by_tap != of_weight else {}),
            Step(
                f"return gradients{self.of}",
                {},
                (filters, sums, narrow, *gradient, *(() if by_tap == of_weight else (by_tap,))),
            ),
        )

    def timeline(
        self,
        biases: int,
        pooled: int = 0,
        gather: tuple[Step, ...] = (),
        gathered: tuple[Step, ...] = (),
        units: Mapping[str, str] = MappingProxyType({}),
    ) -> Timeline:
        """Of a layer by itself.

        Args:
            biases: how many it has.
            pooled: elements that a max-pool leaves of the output; 0 without one.
            gather: what makes the weight, before the convolution.
            gathered: what its gradient, "gradient of gathered weight", is made into; without, it is the weight's.
            units: of these steps' storages.
        """
        output, gradient = ("convolved", "gradient of convolved") if pooled else ("output", "gradient of output")
        of_weight = "gradient of gathered weight" if gathered else "gradient of weight"
        rows, by_coset = max(1, self._cosets) * biases, "gradient by coset of bias"
        of_rows = f"gradient of {BIAS_ROWS}" if self._cosets else "gradient of bias"
        forward = (
            Step("copy bias", {BIAS_ROWS: rows}),
            *gather,
            *self.forward(output),
            Step("return", {}, (BIAS_ROWS,)),
        )
        backward = (
            self._by_coset("gradient of bias", {by_coset: self._output if biases else 0}),
            Step("add up bias over images", {of_rows: rows}, (by_coset,)),
            *self.backward("gradient of input", of_weight, (gradient,) if pooled else ()),
            *gathered,
            *((Step("add up bias", {"gradient of bias": biases}, (of_rows,)),) if self._cosets else ()),
        )
        if not pooled:
            return Timeline(forward, backward, {**self.units, **units})
        pool = Step("pool", {"output": pooled, "pool indices": pooled})
        back = Step("pool, backward", {gradient: self._output}, (output, "pool indices"))
        return Timeline((*forward, pool), (back, *backward), {**self.units, **units, "pool indices": INDEX})

    @property
    def _cosets(self) -> int:
        return len(self.window.cosets)

    @property
    def _output(self) -> int:
        batch, _, *sizes = self.input_shape
        rows, columns = (self.window.size_out(side + 2 * self.window.padding) for side in sizes)
        return batch * self.fields[1] * self.window.basis.order * rows * columns

    def _by_coset(self, what: str, made: dict[str, int]) -> Step:
        """A copy of maps, element by element in another order, where there are cosets."""
        index, there = f"places of cosets{self.of}", any(made.values()) and self._cosets
        places = {index: self._cosets * self.window.basis.order}
        storages = {name: size if there else 0 for name, size in (places | made).items()}
        return Step(f"{what} by coset{self.of}", storages, (index,))

    @property
    def _weight(self) -> tuple[int, int]:
        """Taps of a pair of fields, of all elements, and pairs."""
        (c_in, c_out), window = self.fields, self.window
        return (1 if window.lifts else window.basis.order) * window.kernel**2, c_in // window.sections * c_out

    @property
    def _between(self) -> dict[str, int]:
        return {f"sums of weights{self.of}": (self.window.basis.order + 4) * self._weight[1]}

    def _of_irreps(
        self, what: str, name: str, halves: bool | None = None, rows: tuple[int, ...] = (1, 2)
    ) -> tuple[Step, ...]:
        """One storage for each irrep of so many rows, as large as its filters."""
        (c_in, c_out), window = self.fields, self.window
        shapes = zip(window.basis.blocks, irreps.filter_shapes(c_out, c_in // window.sections, window), strict=True)
        return tuple(
            Step(f"{what}{self.of}", {name: math.prod(shape)}, halves=halves)
            for block, shape in shapes
            if block.rows in rows
        )

    def _make_filters(self) -> tuple[Step, ...]:
        taps, pairs = self._weight
        # by taps; where either is one, this is a view
        turned = {f"weight by tap{self.of}": taps * pairs} if min(taps, pairs) > 1 else {}
        return (
            Step(f"turn weight{self.of}", turned),
            *self._of_irreps("make filters", f"filters of irreps{self.of}"),
            Step(f"make filters{self.of}", self._between, (*self._between, *turned)),
        )

    def _images(
        self, what: str, made: dict[str, int], sums: str = "", spare: str = ""
    ) -> tuple[list[Step], tuple[str, ...]]:
        """The steps, with what is made before the first of them, and what the last leaves.

        The products of an irrep's rows are added up in ``sums``, from the second on by way of a ``spare`` storage.
        """
        batch, _, *sizes = self.input_shape
        size = (batch, self.fields[0], 1 if self.window.lifts else self.window.basis.order, *sizes)
        held = irrep_planes.held(self.window, size, self.fields[1], self.dtype.itemsize, torch.get_num_threads())
        steps, live = [Step(f"{what}{self.of}", made)], tuple[str, ...]()
        if sums:
            steps += [*self._of_irreps(what, sums), *self._of_irreps(what, spare, halves=True)]
        # rows that have a second product in the first step or in one that is alike, and later ones
        early = tuple(rows for rows in (1, 2) if rows > 1 or held[0][0] > 1)
        for place, (_, *sides) in enumerate(held):
            last = ", last images" if place else ""
            storages = {
                f"{one} of {side}{last}{self.of}": amount
                for side, holds in zip(("input", "output"), sides, strict=True)
                for one, amount in holds._asdict().items()
            }
            steps.append(Step(f"{what}{last}{self.of}", storages, live))
            if sums:
                late = tuple(rows for rows in (1, 2) if rows not in early)
                steps += self._of_irreps(f"{what}{last}", spare, False, late if place else early)
            live = tuple(storages)
        return steps, live
