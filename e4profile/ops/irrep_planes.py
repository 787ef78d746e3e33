"""The group convolution in the irrep basis by PyTorch's operators, a few images at a time, without a graph.

Fields lie outermost: what is added are long runs of positions, and what is multiplied are matrices times such runs. A
step's maps are written once, element by element, with the zeros around them that taps reach for. The images of small
maps lie innermost, so that the rows that a tap reads are long. Everything else of a step fits into a cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from e4profile.ops import huge_pages
from e4profile.ops.butterflies import Call, Place, Plan, Planned, dense, run, together, transforming
from e4profile.ops.irrep_basis import Window

_LONG_ROW = 16
"""Columns of an output from which on a row of one image is long enough."""
_IMAGES = 8
"""Of a step, at least, where they lie innermost."""
_BLOCK_BYTES = 8 << 20
"""Of coefficients that are made and multiplied before the next images are."""
_ACCELERATOR_BLOCK_BYTES = 1 << 28
_RUN = 1 << 14
"""Elements of one addition, of which a dozen fit into a core's second-level cache; threads share longer ones."""


@dataclass(frozen=True)
class Planes:
    """Where the positions of a step's images lie.

    Attributes:
        window: the convolution.
        images: of the step.
        height: of a map.
        width: of a map.
        innermost: whether the images of a position lie together; else the positions of an image do.
    """

    window: Window
    images: int
    height: int
    width: int
    innermost: bool

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """The axes of what is added and multiplied."""
        window = self.window
        rows, columns = (window.size_out(size + 2 * window.padding) for size in (self.height, self.width))
        return (rows, columns * self.images) if self.innermost else (self.images, rows, columns)

    @cached_property
    def phases(self) -> list[tuple[int, int]]:
        """The remainders of row and column by the stride that taps read."""
        stride = self.window.stride
        read = sorted({(tap - self.window.padding) % stride for tap in range(self.window.kernel)})
        return list(product(read, read))

    @property
    def before(self) -> int:
        """Rows and columns of zeros before the first pixel of a phase."""
        return -(-self.window.padding // self.window.stride)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a phase of the padded maps."""
        window = self.window
        after = max(0, (window.kernel - 1 - window.padding) // window.stride)
        rows, columns = (
            max(-(-size // window.stride), window.size_out(size + 2 * window.padding) + after) + self.before
            for size in (self.height, self.width)
        )
        return rows, columns

    @property
    def places(self) -> int:
        """Of a padded field."""
        return self.images * math.prod(self.grid)

    def padded(self, fields: int, elements: int) -> tuple[int, int, int]:
        """The sizes of padded maps: (phases, elements, fields x places)."""
        return len(self.phases), elements, fields * self.places

    def read(self, tap: int) -> tuple[int, int]:
        """The phase that a tap reads, and the first place that it reads there."""
        window = self.window
        (down, row), (across, column) = (
            divmod(place - window.padding, window.stride) for place in divmod(tap, window.kernel)
        )
        first = (self.before + down) * self.grid[1] + self.before + across
        return self.phases.index((row, column)), first * (self.images if self.innermost else 1)

    @property
    def as_it_lies(self) -> bool:
        """Whether maps are read where they are, if their rows are dense."""
        return not self.innermost and _reads_as_it_lies(self.window)

    def inside(self, places: Tensor) -> Tensor:
        """Padded fields (..., fields x places) from the first pixel on: (images, ..., fields, rows, columns)."""
        shape = (*self.grid, self.images) if self.innermost else (self.images, *self.grid)
        fields: Tensor = places.unflatten(-1, (-1, *shape)).movedim(-1 if self.innermost else -3, 0)
        return fields[..., self.before :, self.before :]


def planes_of(window: Window, size: Sequence[int], itemsize: int, device: str) -> list[Planes]:
    """Where the images of each step of (B, fields, elements, h, w) lie; by sizes alone.

    Args:
        window: the convolution.
        size: of the input, its fields apart from their elements.
        itemsize: bytes of an element.
        device: its type; on "meta", nothing has to be there at once.
    """
    batch, fields, _, height, width = size
    rows, columns = (window.size_out(side + 2 * window.padding) for side in (height, width))
    innermost = columns < _LONG_ROW and not _reads_as_it_lies(window)
    positions, on_cpu = rows * columns, device == "cpu"
    if innermost or not on_cpu:
        image_bytes = positions * _maps_read(window) * fields * itemsize
        block_bytes = _BLOCK_BYTES if on_cpu else _ACCELERATOR_BLOCK_BYTES
        most = max(_IMAGES, block_bytes // max(1, image_bytes))
    else:
        most = max(1, _RUN // max(1, fields * positions))
    if device == "meta":
        most = batch
    # as many images in each step as in the others
    images = -(-batch // max(1, -(-batch // max(1, most))))
    return [
        Planes(window, min(batch - first, images), height, width, innermost)
        for first in range(0, batch, max(1, images))
    ]


def _maps_read(window: Window) -> int:
    return sum(len(sources) for reading in window.readings for sources in reading.sets)


def _reads_as_it_lies(window: Window) -> bool:
    return (window.kernel, window.padding) == (1, 0)


class _Maps:
    """The padded maps of a step: (phases, elements, fields x places), zero but for the images' pixels."""

    def __init__(self, planes: Planes, like: Tensor) -> None:
        _, fields, elements, *_ = like.shape
        self.planes, self.order = planes, _storage_order(planes.window, elements)
        self.places = like.new_zeros(planes.padded(fields, elements))
        self.has_sums = False

    def _pixels(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """By phase and element, where images (images, fields, elements, h, w) have its pixels, and where they lie."""
        stride = self.planes.window.stride
        for (row, column), places in zip(self.planes.phases, self.places, strict=True):
            phase = images[..., row::stride, column::stride]
            for element, own in zip(self.order, self.planes.inside(places).unbind(1), strict=True):
                yield phase[:, :, element], own[..., : phase.shape[3], : phase.shape[4]]

    def load(self, images: Tensor) -> None:
        """Write the pixels of images (images, fields, elements, h, w) here."""
        if self.has_sums:
            self.clear()
        for theirs, ours in self._pixels(images):
            ours.copy_(theirs)

    def clear(self, *, for_sums: bool = False) -> None:
        """Write zeros, to places where sums are about to be written or have been."""
        self.places.zero_()
        self.has_sums = for_sums

    def store(self, images: Tensor) -> None:
        """Write what is here to the images' pixels."""
        for theirs, ours in self._pixels(images):
            theirs.copy_(ours)


def _storage_order(window: Window, elements: int) -> list[int]:
    """The elements as they lie in memory: of two pairs that are added first, the second behind the first."""
    paired = [slot for stage in window.basis.stages[:1] for pair in stage for slot in pair] if elements > 1 else []
    return paired + [one for one in range(elements) if one not in paired]


_MAPS, _SCRATCH, _MADE = 0, 1, 2
"""The buffers of a plan: maps, sums in between, and coefficients, block behind block."""


@dataclass(frozen=True)
class _Plan:
    """What takes maps to coefficients and back, apart from their tensors.

    Attributes:
        planes: of what is read; of an output, those of its window of one tap.
        fields: of a section.
        as_it_lies: the strides of images (images, fields, elements, h, w) that are read where they are; else ().
        run_length: elements of one addition.
    """

    planes: Planes
    fields: int
    as_it_lies: tuple[int, ...]
    run_length: int

    @cached_property
    def parts(self) -> list[tuple[range, range]]:
        """The sections and fields of additions that are long enough, and short enough for a cache."""
        sections, fields = self.planes.window.sections, self.fields
        fit = max(1, self.run_length // max(1, math.prod(self.planes.positions)))
        many, each = max(1, fit // max(1, fields)), -(-fields // max(1, -(-fields // fit)))
        return [
            (range(first, min(sections, first + many)), range(field, min(fields, field + each)))
            for first in range(0, sections, many)
            for field in range(0, fields, max(1, each))
        ]

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """The sizes of each block's coefficients: (rows, sections, columns, fields, *positions)."""
        window, positions = self.planes.window, self.planes.positions
        blocks = zip(window.basis.blocks, window.widths, strict=True)
        return [(block.rows, window.sections, width, self.fields, *positions) for block, width in blocks]

    @property
    def scratch(self) -> int:
        """Elements of the sums in between."""
        longest = math.prod(map(len, self.parts[0])) * math.prod(self.planes.positions) if self.parts else 0
        return (2 * self.planes.window.basis.order + 4) * longest

    def _map(self, element: int, tap: int) -> Place:
        """What a tap reads of an element's maps: (sections, fields, *positions)."""
        planes, window = self.planes, self.planes.window
        size = (window.sections, self.fields, *planes.positions)
        if self.as_it_lies:
            image, field, of_element, row, pixel = self.as_it_lies
            steps = (self.fields * field, field, image, row * window.stride, pixel * window.stride)
            return Place(_MAPS, element * of_element, size, steps)
        elements = 1 if window.lifts else window.basis.order
        phase, first = planes.read(tap)
        own = phase * elements + _storage_order(window, elements).index(element)
        columns = planes.grid[1]
        rows = (columns * planes.images, 1) if planes.innermost else (math.prod(planes.grid), columns, 1)
        steps = (self.fields * planes.places, planes.places, *rows)
        return Place(_MAPS, own * window.sections * self.fields * planes.places + first, size, steps)

    def _coefficients(self, block: int, row: int, column: int) -> Place:
        """One column of a block's row: (sections, fields, *positions)."""
        window, positions = self.planes.window, self.planes.positions
        width, inner = window.widths[block], dense(0, self.fields, *positions)
        each = self.fields * math.prod(positions)
        before = sum(one.rows * other for one, other in zip(window.basis.blocks[:block], window.widths, strict=False))
        first = ((before + row * width) * window.sections + column) * each
        return Place(_MADE, first, (window.sections, *inner.size), (width * each, *inner.strides))

    @lru_cache(maxsize=64)  # noqa: B019  (as many plans are kept, whoever made them)
    def calls(self, way: str) -> Plan:
        """The additions from maps to coefficients ("to"), back ("from"), or back to what they add to ("onto")."""
        order, plan = self.planes.window.basis.order, list[Planned]()
        for sources, stages, slots in self.planes.window.sets:
            maps, by_slot = [self._map(*one) for one in sources], [self._coefficients(*slot) for slot in slots]
            for part in self.parts:
                one = dense(_SCRATCH, *map(len, part), *self.planes.positions)
                each = math.prod(one.size)
                scratch = [one._replace(offset=n * each) for n in range(2 * order + 4)]
                read, made = ([place.part(*part) for place in places] for places in (maps, by_slot))
                sums, spare = scratch[: len(maps)], scratch[len(maps) :]
                if way == "to":
                    plan += transforming(read, stages, made, spare)
                    continue
                plan += transforming(made, stages[::-1], read if way == "from" else sums, spare)
                if way == "onto":
                    added = sorted(zip(read, sums, read, strict=True))
                    for first in range(0, len(added), 2):
                        plan += together(torch.add, added[first : first + 2])
        return Plan(plan)


class _Coefficients:
    """Images as the irreps' coefficients, by block (rows, sections, columns, fields, *positions), and back."""

    def __init__(self, planes: Planes, like: Tensor) -> None:
        self.planes = planes
        as_it_lies = planes.as_it_lies and like.stride(-1) == 1
        strides = like.stride() if as_it_lies else ()
        self.plan = _Plan(planes, like.shape[1] // planes.window.sections, strides, _run_length(like))
        shapes = self.plan.blocks
        sizes = list(map(math.prod, shapes))
        self.whole = huge_pages.empty((sum(sizes),), like)
        self.made = [part.view(shape) for part, shape in zip(self.whole.split(sizes), shapes, strict=True)]
        self.maps = None if as_it_lies else _Maps(planes, like)
        self.scratch = like.new_empty(self.plan.scratch)
        self.calls: dict[str, list[Call]] = {}

    def _run(self, way: str, images: Tensor) -> None:
        if self.maps is None:
            # a gradient is written to images that may have other strides than those that were read
            plan = (
                self.plan if self.plan.as_it_lies == images.stride() else replace(self.plan, as_it_lies=images.stride())
            )
            run(plan.calls(way).bound([images, self.scratch, self.whole]))
            return
        if way not in self.calls:
            self.calls[way] = self.plan.calls(way).bound([self.maps.places, self.scratch, self.whole])
        run(self.calls[way])

    def load(self, images: Tensor) -> None:
        """Transform images (images, fields, elements, h, w)."""
        if isinstance(images, FakeTensor):  # sums into what is there do not show, and there are thousands
            return
        if self.maps is not None:
            self.maps.load(images)
        self._run("to", images)

    def store(self, images: Tensor) -> None:
        """Write the transpose of the transform to images (images, fields, elements, h, w)."""
        if isinstance(images, FakeTensor):
            return
        once = self.planes.window.kernel == 1
        if self.maps is not None and not once:
            self.maps.clear(for_sums=True)
        self._run("from" if once else "onto", images)
        if self.maps is not None:
            self.maps.store(images)


def _run_length(like: Tensor) -> int:
    """Elements of one addition, at most."""
    return _cpu_run_length(torch.get_num_threads()) if like.device.type == "cpu" else max(1, like.numel())


def _cpu_run_length(threads: int) -> int:
    return _RUN if threads == 1 else 2 * _RUN * threads


class Held(NamedTuple):
    """Elements of what a step makes of its input, or of its output."""

    coefficients: int
    maps: int
    scratch: int


def held(
    window: Window, size: Sequence[int], fields_out: int, itemsize: int, threads: int
) -> list[tuple[int, Held, Held]]:
    """Steps on the CPU, one after another: how many are alike and share what they hold of input and output.

    Args:
        window: the convolution.
        size: (B, fields, elements, h, w) of a contiguous input.
        fields_out: of the output.
        itemsize: bytes of an element.
        threads: of a sum.
    """
    run_length = _cpu_run_length(threads)
    return [
        (
            len(list(alike)),
            _held(planes, size[1], size[2], run_length),
            _held(_written(planes), fields_out, window.basis.order, run_length),
        )
        for planes, alike in groupby(planes_of(window, size, itemsize, "cpu"))
    ]


def _held(planes: Planes, fields: int, elements: int, run_length: int) -> Held:
    plan = _Plan(planes, fields // planes.window.sections, (), run_length)
    maps = 0 if planes.as_it_lies else math.prod(planes.padded(fields, elements))
    return Held(sum(map(math.prod, plan.blocks)), maps, plan.scratch)


def _written(planes: Planes) -> Planes:
    """Where the outputs of a step lie."""
    window = planes.window
    plain = Window(window.group, 1, 1, 0, window.cosets, sections=window.sections)
    rows, columns = (window.size_out(side + 2 * window.padding) for side in (planes.height, planes.width))
    return Planes(plain, planes.images, rows, columns, planes.innermost)


class _Step(NamedTuple):
    images: slice
    read: _Coefficients
    """Of the input."""
    written: _Coefficients
    """Of the output, or of its gradient."""
    times: int
    """How many steps are as this one; above 1 where there are no values, and one stands for all."""


def _steps(given: Tensor, output: Tensor, window: Window) -> Iterator[_Step]:
    first = 0
    for planes, alike in groupby(planes_of(window, given.shape, given.element_size(), given.device.type)):
        starts = [first + n * planes.images for n, _ in enumerate(alike)]
        slices = [slice(start, start + planes.images) for start in starts]
        first = slices[-1].stop
        images = slices[0]
        read = _Coefficients(planes, given[images])
        written = _Coefficients(_written(planes), output[images])
        if isinstance(given, FakeTensor):
            yield _Step(images, read, written, len(slices))
            continue
        for images in slices:
            yield _Step(images, read, written, 1)


def forward(features: Tensor, filters: Sequence[Tensor], bias: Tensor | None, window: Window) -> Tensor:
    """The group convolution of (B, c_in * A, h, w) by ``irreps.irrep_filters``: (B, c_out * A, h_out, w_out)."""
    given = window.split_input(features)
    c_out = len(filters[0]) // window.basis.blocks[0].dimension
    rows, columns = (window.size_out(size + 2 * window.padding) for size in features.shape[-2:])
    out = huge_pages.empty((len(given), c_out, window.basis.order, rows, columns), features)
    matrices = _matrices(filters, window)
    for images, read, written, times in _steps(given, out, window):
        read.load(given[images])
        for matrix, operands, products in zip(matrices, read.made, written.made, strict=True):
            if not matrix.numel():
                # of an irrep that no orbit of taps has anything of
                products.zero_()
                continue
            for operand, into in zip(operands, products, strict=True):
                _multiply(matrix, _flat(operand), _flat(into), times)
        if bias is not None:
            # what every element has the same of is the trivial irrep's
            trivial = _flat(written.made[0][0])
            trivial += bias.view(window.sections, -1, 1)
        written.store(out[images])
    return window.joined(out)


def gradients(
    gradient: Tensor, features: Tensor, filters: Sequence[Tensor], window: Window, wanted: Sequence[bool]
) -> tuple[Tensor | None, list[Tensor] | None]:
    """The gradients of features and filters, where wanted, of an output (B, c_out * A, h_out, w_out)."""
    given, upstream = window.split_input(features), window.split(gradient)
    matrices = _matrices(filters, window)
    of_given = torch.zeros_like(given, memory_format=torch.contiguous_format) if wanted[0] else None
    totals = [_Total(one) for one in matrices] if wanted[1] else []
    for images, read, written, times in _steps(given, upstream, window):
        written.load(upstream[images])
        if wanted[1]:
            read.load(given[images])
        for place, matrix in enumerate(matrices):
            if not matrix.numel():
                continue
            for operand, of_products in zip(read.made[place], written.made[place], strict=True):
                if totals:
                    totals[place].add(_flat(of_products), _flat(operand).mT, times)
                if wanted[0]:
                    _multiply(matrix.mT, _flat(of_products), _flat(operand), times)
        if of_given is not None:
            read.store(of_given[images])
    of_features = None if of_given is None else window.joined_input(of_given)
    return of_features, [one.value() for one in totals] if wanted[1] else None


class _Total:
    """The sum of products of one shape, step by step."""

    def __init__(self, like: Tensor) -> None:
        # many small sums in half precision would lose what single steps add
        half = like.dtype in (torch.float16, torch.bfloat16)
        self.total = torch.empty_like(like, dtype=torch.float32 if half else None)
        self.spare = torch.empty_like(like) if half else None
        self.like, self.products = like, 0

    def add(self, a: Tensor, b: Tensor, times: int) -> None:
        """Add the product of matrices, of stand-ins so many times."""
        self.products += 1
        if self.products == 1 and self.spare is None and times == 1:
            _multiply(a, b, self.total, times)
            return
        if self.products == 1:
            self.total.zero_()
        if self.spare is None:
            self.spare = torch.empty_like(self.like)
        _multiply(a, b, self.spare, times)
        self.total += self.spare

    def value(self) -> Tensor:
        """The sum; 0 without products."""
        return self.total.to(self.like.dtype) if self.products else torch.zeros_like(self.like)


def _matrices(filters: Sequence[Tensor], window: Window) -> list[Tensor]:
    """The filters of each block by section: (sections, d * c_out, columns * c_in)."""
    return [one.flatten(1).unflatten(0, (window.sections, -1)) for one in filters]


def _flat(places: Tensor) -> Tensor:
    """(sections, columns, fields, *positions) as matrices (sections, columns * fields, positions)."""
    return places.flatten(3).flatten(1, 2)


def _multiply(a: Tensor, b: Tensor, out: Tensor, times: int) -> None:
    """Write the products of matrices (sections, m, k) and (sections, k, n), or of stand-ins so many times."""
    if not torch._C._len_torch_dispatch_stack():
        torch.bmm(a, b, out=out)
        return
    # who counts sees what they are: convolutions of one tap
    if times > 1:
        b, out = (one.as_strided((*one.shape[:2], times * one.shape[2]), (0, 0, 0)) for one in (b, out))
    for filters, maps, into in zip(a, b, out, strict=True):
        torch.ops.aten.convolution.out(
            maps[None, :, None], filters[:, :, None, None], None,
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, out=into[None, :, None],
        )  # fmt: skip
