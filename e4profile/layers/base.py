"""What every layer with a closed form has: named terms, the values of their symbols, an output shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from e4profile.conventions import CONVOLUTION, convention
from e4profile.errors import SettingError, not_negative, positive
from e4profile.groups import FiniteGroup, Group, GroupLike, as_group
from e4profile.groups.protocol import NoSuchMap
from e4profile.layers.constants import ConstantTables
from e4profile.layers.storages import Timeline
from e4profile.layers.terms import Term, Terms, evaluate
from e4profile.symbols import A, Symbol, at, c_in, c_out, h, h_out, has_bias, k, w, w_out

Shape: TypeAlias = tuple[int, ...]
Dimensions: TypeAlias = Mapping[Symbol, int]


@dataclass(frozen=True)
class Cost:
    """The evaluated terms of one layer at one input shape.

    Attributes:
        params: parameters by term.
        macs: forward multiply-accumulates by term, for the whole batch.
        elements: normalised elements by term, for the whole batch.
        kinds: the kind of each term of ``macs`` and ``elements`` (see ``e4profile.conventions``).
        printed: names of the terms that the source's printed closed form contains.
    """

    params: dict[str, int]
    macs: dict[str, int]
    elements: dict[str, int]
    kinds: dict[str, str]
    printed: dict[str, tuple[str, ...]]

    @property
    def total_params(self) -> int:
        """All parameters."""
        return sum(self.params.values())

    @property
    def total_macs(self) -> int:
        """All forward MACs of the batch, in the default convention."""
        return self.total("macs")

    @property
    def printed_params(self) -> int:
        """Parameters by the closed form as the source prints it."""
        return sum(self.params[name] for name in self.printed["params"])

    @property
    def printed_macs(self) -> int:
        """MACs by the closed form as the source prints it."""
        return sum(self.macs.get(name, 0) for name in self.printed["macs"])

    @property
    def operations(self) -> dict[str, int]:
        """Operations by kind."""
        by_kind: dict[str, int] = {}
        for name, amount in (*self.macs.items(), *self.elements.items()):
            kind = self.kinds[name]
            by_kind[kind] = by_kind.get(kind, 0) + amount
        return {kind: amount for kind, amount in by_kind.items() if amount}

    def total(self, convention_name: str) -> int:
        """The operations added up under a named convention."""
        return convention(convention_name).total(self.operations)


@runtime_checkable
class Costed(Protocol):
    """The closed form of a layer: everything ``layer_cost`` reads. None of it touches a tensor.

    Attributes:
        params: parameters by term.
        macs: forward MACs *of one image* by term.
        elements: normalised elements of one image by term.
        kinds: the kind of a term; a term not named here is a convolution.
        printed: ``{"params": names, "macs": names}`` of the terms that the source's own formula has.
    """

    @property
    def params(self) -> Terms: ...  # noqa: D102
    @property
    def macs(self) -> Terms: ...  # noqa: D102
    @property
    def elements(self) -> Terms: ...  # noqa: D102
    @property
    def kinds(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def printed(self) -> Mapping[str, Sequence[str]]: ...  # noqa: D102

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The value of every symbol of the terms, from arguments and shape alone."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape in, shape out, both with the batch."""


def layer_cost(layer: Costed, input_shape: Shape, dimensions: Dimensions | None = None) -> Cost:
    """Evaluate a layer's terms at an input shape (B, ...).

    Args:
        layer: whatever has terms.
        input_shape: (B, ...).
        dimensions: the layer's at this shape, where they are known.

    Raises:
        SettingError: when the shape does not fit the layer.
    """
    values = layer.dimensions(input_shape) if dimensions is None else dimensions
    batch = input_shape[0]
    # what does not depend on the images runs once, whatever the batch
    once: frozenset[str] = getattr(layer, "per_forward", frozenset())
    switched: frozenset[str] = getattr(layer, "switched_terms", frozenset())
    where = tuple((one, values[one]) for one in getattr(layer, "in_irreps_where", ()))
    names = (*layer.macs, *layer.elements)

    def of_the_batch(terms: Terms) -> dict[str, int]:
        amounts = evaluate(terms, values)
        # of two executions, the terms of the one that does not run are not the layer's
        run = {
            name: amount
            for name, amount in amounts.items()
            if amount or name not in switched or _runs(terms[name], where)
        }
        return {name: amount if name in once else batch * amount for name, amount in run.items()}

    return Cost(
        params=evaluate(layer.params, values),
        macs=of_the_batch(layer.macs),
        elements=of_the_batch(layer.elements),
        kinds={name: layer.kinds.get(name, CONVOLUTION) for name in names},
        printed={part: tuple(layer.printed.get(part, ())) for part in ("params", "macs")},
    )


@lru_cache(maxsize=4096)
def _runs(term: Term, where: tuple[tuple[Symbol, int], ...]) -> bool:
    """Whether a term is that of an execution, whatever the sizes are."""
    return bool(at(term, dict(where)))


LAYERS: dict[str, type[EquivariantLayer]] = {}
"""Every layer class of the package by class name, filled as the layer files are imported."""


@dataclass(frozen=True)
class Sample:
    """One setting for the contract tests: constructor arguments (without ``group``) and an input size.

    ``channels`` is the number of input fields where no argument ``c_in`` or ``fields`` says it.
    """

    arguments: Mapping[str, Any]
    size: tuple[int, int]
    channels: int | None = None


class EquivariantLayer(ConstantTables):
    """Base of the layers: an ``nn.Module`` whose class carries the closed form.

    Feature maps are (B, c * A, h, w) with channel index = field * A + group element for *regular* fields
    and (B, c, h, w) for *trivial* fields (images; maps pooled over the group).
    """

    source: ClassVar[str] = ""
    params: Terms = {}
    macs: ClassVar[Terms] = {}
    elements: ClassVar[Terms] = {}
    kinds: ClassVar[Mapping[str, str]] = {}
    printed: ClassVar[Mapping[str, Sequence[str]]] = {"params": (), "macs": ()}
    per_forward: ClassVar[frozenset[str]] = frozenset()
    """Terms of ``macs`` and ``elements`` that run once per forward, whatever the batch."""
    entry_terms: ClassVar[frozenset[str] | None] = None
    """Terms of ``macs`` that multiply the layer's input itself by weights; None where there is only one term.
    In a network's first layer their input needs no gradient."""
    in_irreps_where: ClassVar[tuple[Symbol, ...]] = ()
    """Indicators that are 1 where the layer, or a part of it, runs in the irrep basis."""
    switched_terms: ClassVar[frozenset[str]] = frozenset()
    """Terms of ``macs`` and ``elements`` of which an indicator of ``in_irreps_where`` says whether they run."""
    constant_inputs: ClassVar[Terms] = {}
    """The part of a term of ``macs`` that multiplies constants by weights, so that no input gradient runs."""
    saved: ClassVar[Terms | None] = None
    """Elements kept for backward per image, by term; None where it is not stated (see ``layers.storages``)."""
    saved_constant: ClassVar[Terms] = {}
    """Elements kept for backward whatever the batch, by term."""
    saved_as: ClassVar[Mapping[str, str]] = {}
    """The unit of a saved term; a term not named here is of the compute dtype."""
    moved: ClassVar[Terms] = {}
    """Elements that a term of ``macs`` reads and writes, for a batch of B; a term not named here moves the layer's
    input, its output and its filters."""
    runs_as: Mapping[str, str] = {}
    """The kind of operator (see ``layers.operators``) that a term of ``macs`` runs as; a term not named here runs as
    its kind and the layer's kernel say."""
    calls: ClassVar[Terms] = {}
    """Operators that a term of ``macs`` runs as; a term not named here is one."""
    peak: ClassVar[Timeline | None] = None
    """The storages of forward and backward, step by step; None where it is not stated (see ``layers.storages``)."""
    hands_on_input: bool = False
    """Whether the output is a view of the input."""
    field_in: str = "regular"
    field_out: str = "regular"
    group: FiniteGroup

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        indicators = set(cls.in_irreps_where)
        terms = {**cls.macs, **cls.elements} if indicators else {}
        cls.switched_terms = frozenset(name for name, term in terms.items() if term.free_symbols & indicators)
        # a class without settings of its own is a base that layers share
        if cls.__module__.startswith("e4profile.layers.") and "samples" in vars(cls):
            LAYERS[cls.__name__] = cls

    def _channels(self, field: str) -> int:
        """Of one field of a type."""
        return self.group.order if field == "regular" else 1

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The value of every symbol of the terms, from arguments and shape alone."""
        raise TypeError(f"{type(self).__name__} must define dimensions() to be asked about {input_shape}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """The output's shape for an input's shape, both with the batch."""
        return input_shape

    def cost(self, input_shape: Sequence[int]) -> Cost:
        """Evaluate the named terms.

        Args:
            input_shape: (B, channels, h, w), or (channels, h, w) for one image.

        Raises:
            SettingError: when the shape does not fit the layer.
        """
        shape = tuple(int(size) for size in input_shape)
        return layer_cost(self, shape if len(shape) == 4 else (1, *shape))

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why this layer is not exactly equivariant on inputs of this shape, or None where it is."""
        del input_shape
        return None

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why ``peak`` does not hold for this layer on inputs of this shape, or None where it does."""
        del input_shape
        return None if self.peak is not None else f"{type(self).__name__} states no timeline of its storages"

    def timeline(self, input_shape: Shape, dtype: torch.dtype) -> Timeline | None:
        """``peak``, or the storages of another execution on inputs of this shape and dtype on the CPU."""
        del input_shape, dtype
        return self.peak

    @classmethod
    def has_closed_form(cls) -> bool:
        """Whether this class is a layer of its own and not a base of layers."""
        return cls.dimensions is not EquivariantLayer.dimensions

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings at which the contract tests build this layer for every supported group."""
        raise TypeError(f"{cls.__name__} must define samples()")


class FieldLayer(EquivariantLayer):
    """A layer of so many fields, of which it mixes none and drops none: what norms, pools and crops share."""

    fields: int

    def _set_fields(self, fields: int, group: GroupLike) -> None:
        positive(fields=fields)
        self.fields, self.group = fields, as_group(group)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = check_maps(self, input_shape, self.fields * self.group.order)
        return {A: self.group.order, c_in: self.fields, h: rows, w: columns}


class WindowedConv2d(EquivariantLayer):
    """A convolution by k x k windows over a map with zeros around it: what those between fields share."""

    what: ClassVar[str]
    """What an error calls the layer."""
    bias: nn.Parameter | None

    def _set_windows(  # noqa: PLR0917
        self, c_in: int, c_out: int, kernel: int, group: GroupLike, stride: int = 1, padding: int = 0
    ) -> None:
        positive(c_in=c_in, c_out=c_out, kernel=kernel, stride=stride)
        not_negative(padding=padding)
        self.group = as_group(group)
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel
        self.stride, self.padding = stride, padding

    @property
    def _bias_rows(self) -> Tensor | None:
        """The bias of each output channel: one per field."""
        return None if self.bias is None else self.bias.repeat_interleave(self._channels(self.field_out))

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        _, _, rows, columns = self.output_shape(input_shape)
        return {
            A: self.group.order, c_in: self.c_in, c_out: self.c_out, k: self.kernel,
            h: input_shape[2], w: input_shape[3], h_out: rows, w_out: columns,
            has_bias: int(self.bias is not None),
        }  # fmt: skip

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in channels, h, w) -> (B, c_out channels, h_out, w_out)."""
        sizes = check_maps(self, input_shape, self.c_in * self._channels(self.field_in))
        windows = (window_size(size, self.kernel, self.stride, self.padding, self.what) for size in sizes)
        return (input_shape[0], self.c_out * self._channels(self.field_out), *windows)

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why the windows do not sit symmetrically on this input, or None."""
        return window_reason(self.group, input_shape[-2:], self.kernel, self.stride, self.padding)


def check_maps(layer: nn.Module, input_shape: Shape, channels: int) -> tuple[int, int]:
    """Height and width of a (B, channels, h, w) shape.

    Raises:
        SettingError: when the rank, the channels or a size does not fit.
    """
    name = type(layer).__name__
    if len(input_shape) != 4:
        raise SettingError(
            f"{name} takes inputs (B, channels, h, w), not a shape of rank {len(input_shape)}: {input_shape}"
        )
    if input_shape[1] != channels:
        raise SettingError(f"{name} takes {channels} channels, not {input_shape[1]} (input {input_shape})")
    if min(input_shape[2:]) < 1:
        raise SettingError(f"{name} takes maps of at least 1x1 pixel (input {input_shape})")
    return input_shape[2], input_shape[3]


def window_size(size: int, kernel: int, stride: int, padding: int, what: str) -> int:
    """How many window positions fit along one axis.

    Raises:
        SettingError: when the window is larger than the padded map.
    """
    if size + 2 * padding < kernel:
        raise SettingError(f"{what}: kernel (={kernel}) is larger than the padded map (={size}+2*{padding})")
    return (size + 2 * padding - kernel) // stride + 1


def window_reason(
    group: FiniteGroup, sizes: Sequence[int], kernel: int, stride: int, padding: int, *, what: str = "windows"
) -> str | None:
    """Why strided windows break exact equivariance on (h, w) maps, or None.

    The first and the last window must be equally far from the border: stride divides size + 2 padding - kernel.
    """
    for size, axis, reversed_axis in zip(sizes, ("height", "width"), group.reversed_axes, strict=True):
        rest = size + 2 * padding - kernel
        if reversed_axis and rest % stride:
            return (
                f"stride (={stride}) does not divide {axis} (={size}) + 2*padding (={padding}) - kernel (={kernel}): "
                f"the {what} do not sit symmetrically, and {group.name} is not exact here"
            )
    if stride > 1 and type(group) is not Group:
        try:
            group.positions(*((size + 2 * padding - kernel) // stride + 1 for size in sizes))
        except NoSuchMap as error:
            return f"stride (={stride}): {error}"
    return None
