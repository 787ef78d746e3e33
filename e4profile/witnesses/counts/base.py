"""What every counter is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from e4profile.conventions import MAC_KINDS, NORM_KINDS, convention
from e4profile.errors import SettingError, some_of

if TYPE_CHECKING:
    from torch import Tensor, nn

SAY_THE_COST = "say what it costs with e4profile.register_operator, or that it is free with e4profile.register_free"
"""What to do about an unknown operator."""

CLOSED_FORM = "closed form"
"""The counter that reads each layer's terms, and nothing of a run."""

BIAS = "bias additions"
PER_OUTPUT = "outputs of transposed convolutions"
ROUNDED = "einsum costs rounded to four digits"
"""The name under which fvcore's operations list what rounding adds: numpy prints a cost, and fvcore reads the print."""
REORDERED = "einsum contracted in another order"
CHARGED = (BIAS, PER_OUTPUT)
"""Names under which a stock counter's operations list what it charges beyond its products, where it adds them up."""


_CONVOLUTIONS = {"LiftingConv2d": "lifting", "GroupConv2d": "group convolution"}
"""What the one term of these layers is called beside other layers' convolutions."""


def added(*several: Mapping[str, int]) -> dict[str, int]:
    """The sums of several amounts by name."""
    found: dict[str, int] = {}
    for amounts in several:
        for name, amount in amounts.items():
            found[name] = found.get(name, 0) + amount
    return found


@dataclass(frozen=True)
class LayerCount:
    """What one counter saw in one module.

    Attributes:
        path: dotted module path, empty for the network itself.
        layer: class name.
        params: parameters.
        operations: amount by kind (see ``e4profile.conventions``): MACs for arithmetic kinds, elements for
            norms. A raw counter reports its own figures by its own operation names instead.
        terms: amount by named term, where the counter knows terms.
        kinds: the kind of each term.
    """

    path: str
    layer: str
    params: int
    operations: Mapping[str, int]
    terms: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """MACs in the default convention."""
        return self.total("macs")

    def total(self, convention_name: str) -> int:
        """Operations added up under a named convention."""
        return convention(convention_name).total(self.operations)

    @property
    def macs_by_term(self) -> dict[str, int]:
        """The terms whose kind is arithmetic, without those of norms; a convolution has its layer's name."""
        mine = {"convolution": _CONVOLUTIONS.get(self.layer, "convolution")}
        macs = {term: amount for term, amount in self.terms.items() if amount and self.kinds[term] in MAC_KINDS}
        return {mine.get(term, term): amount for term, amount in macs.items()}


@dataclass(frozen=True)
class Count:
    """One counter's view of one network at one input shape.

    Attributes:
        counter: the counter's name.
        version: the version of the counter or of the library it wraps.
        layers: what it saw, by module; every operation stands in exactly one of them.
        raw: True for a third-party counter, whose operations are its own and are only ever added up.
        uncounted: operations that it executed or met and could not count, with how often.
        uncounted_in: the modules in which each of them ran, where the counter knows (dispatch only).
        free: operations that cost nothing in any convention, with how often (dispatch only).
        summed_products: elements of element-by-element products that a sum consumed, by the module that formed
            them: MACs that are not charged (dispatch only).
        by_operator: the operations of each module by the operator that ran, then by kind (dispatch only).
        elements: what ran element by element, by module and kind (dispatch only): in ``operations`` of no layer, and
            charged only by a convention that weighs such kinds (``charging``).
        classes: the class of each module, where elements are counted.
        outputs: the shapes that each module returned, as text (dispatch only).
        notes: what a reader must know, for example that a parameter total is the counter's own.
    """

    counter: str
    version: str
    layers: tuple[LayerCount, ...]
    raw: bool = False
    uncounted: Mapping[str, int] = field(default_factory=dict)
    uncounted_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    free: Mapping[str, int] = field(default_factory=dict)
    summed_products: Mapping[str, int] = field(default_factory=dict)
    by_operator: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    elements: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict, repr=False)
    outputs: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """All parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """All MACs in the default convention; for a raw counter, the figure that it reports."""
        return self.total("macs")

    def total(self, convention_name: str) -> int:
        """Operations under a named convention; a raw counter's own total whatever the convention.

        Raises:
            SettingError: of a closed form, for a convention that charges what runs element by element.
        """
        if self.raw:
            return sum(sum(layer.operations.values()) for layer in self.layers)
        if self.counter == CLOSED_FORM and convention(convention_name).elementwise:
            raise SettingError(f"{convention_name} charges what runs element by element, which no closed form states")
        return sum(layer.total(convention_name) for layer in self.charging(convention_name).layers)

    def charging(self, convention_name: str) -> Count:
        """The same, with what a convention charges element by element among the operations of the layers."""
        weights = convention(convention_name).weights
        if not self.elements or not convention(convention_name).elementwise:
            return self
        charged = {
            path: {kind: amount for kind, amount in amounts.items() if weights.get(kind)}
            for path, amounts in self.elements.items()
        }
        known = {layer.path: layer for layer in self.layers}
        found = [
            replace(one, operations=added(one.operations, charged.get(path, {})))
            for path, name in self.classes.items()
            if (one := known.get(path, LayerCount(path, name, 0, {}))) and (path in known or charged.get(path))
        ]
        return replace(self, layers=tuple(found), elements={})

    @property
    def macs_by_term(self) -> dict[str, int]:
        """MACs of the whole network by named term, in order of execution."""
        return added(*(layer.macs_by_term for layer in self.layers))

    @property
    def operations(self) -> dict[str, int]:
        """Operations of the whole network by kind."""
        return added(*(layer.operations for layer in self.layers))

    @property
    def unknown_operators(self) -> list[str]:
        """What ran and could not be counted, and where, a phrase each; with any, all totals are lower bounds."""
        places = {name: [path or "(network)" for path in self.uncounted_in.get(name, ("",))] for name in self.uncounted}
        return [
            f"{some_of(places[name])}: unknown operator {name}, executed {times:,} times"
            for name, times in self.uncounted.items()
        ]

    def rolled_up(self, paths: Iterable[str]) -> dict[str, LayerCount]:
        """What happened at or below each path; what fits below none is under its own path."""
        known = set(paths)
        gathered: dict[str, LayerCount] = {}
        for layer in self.layers:
            path = owner(layer.path, known)
            before = gathered.get(path, LayerCount(path, layer.layer, 0, {}))
            name = layer.layer if layer.path == path else before.layer
            operations = added(before.operations, layer.operations)
            gathered[path] = LayerCount(path, name, before.params + layer.params, operations)
        return gathered


def owner(path: str, known: Collection[str]) -> str:
    """The innermost of the known paths that holds one; the path itself where none does."""
    above = path
    while above and above not in known:
        above = above.rpartition(".")[0]
    return above if above in known else path


def layer_counts(model: nn.Module, by_path: Mapping[str, Mapping[str, int]]) -> tuple[LayerCount, ...]:
    """A layer for each module that has parameters or operations of its own, in order of definition.

    Args:
        model: its parameters are counted in the first module that has them.
        by_path: operations by module path.
    """
    seen: set[int] = set()
    layers = []
    for path, module in model.named_modules():
        own = {id(p): p for p in module._parameters.values() if p is not None and id(p) not in seen}
        seen.update(own)
        params = sum(p.numel() for p in own.values()) + _packed(module)
        amounts = {kind: amount for kind, amount in by_path.get(path, {}).items() if amount}
        if params or own or amounts:
            layers.append(LayerCount(path, type(module).__name__, params, amounts))
    return tuple(layers)


def _packed(module: nn.Module) -> int:
    """Parameters that a quantised module keeps in an object of its library, which holds no ``nn.Parameter``."""
    held = [tensor for value in vars(module).values() if _is_packed(value) for tensor in _held(value)]
    # the bias of a recurrent cell is in its state and in its packed matrix
    return sum({tensor.data_ptr(): tensor.numel() for tensor in held}.values())


def _is_packed(value: Any) -> bool:
    return type(value).__name__ == "ScriptObject"


def _held(value: Any) -> list[Tensor]:
    """The tensors in an object of a quantised library: of a matrix, or the state of a whole cell."""
    if isinstance(value, (tuple, list)):
        return [tensor for one in value for tensor in _held(one)]
    if _is_packed(value):
        return _held(value.unpack() if hasattr(value, "unpack") else value.__getstate__())
    return [value] if hasattr(value, "data_ptr") else []


@dataclass(frozen=True)
class Known:
    """A deviation that a counter is known for, which explains a module's figure where it holds exactly.

    Attributes:
        name: of the cause.
        holds: whether it is so, called with the module's class, the MACs that the counter reports there, and those
            that run; both are more than 0 and they differ.
    """

    name: str
    holds: Callable[[str, int, int], bool]


@dataclass(frozen=True)
class CounterSpec:
    """How one counter is asked.

    Attributes:
        name: of the counter on the command line and in the library.
        package: the distribution that it needs, whose version is recorded.
        count: returns a raw ``Count``, called with a copy of the model in evaluation mode on a real device and with its
            positional inputs. None for the two exact counters, which every measurement has.
        title: the heading of its column; the name where there is none.
        by_default: whether it is asked where no counter is named.
        keywords: whether it takes inputs by keyword too; otherwise positional ones only.
        known: deviations that it is known for, besides operations that it does not see or charges apart.
    """

    name: str
    package: str
    count: Callable[..., Count] | None = None
    title: str = ""
    by_default: bool = False
    keywords: bool = False
    known: tuple[Known, ...] = ()

    @property
    def raw(self) -> bool:
        """Whether its operations are its own, and only ever added up."""
        return self.count is not None

    @property
    def key(self) -> str:
        """Its name as a key of rows, JSON and records."""
        return self.name.replace("-", "_")

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return self.title or self.name

    @property
    def version(self) -> str | None:
        """The installed version of its package, or None."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


WITNESSED_KINDS = (*MAC_KINDS, *NORM_KINDS)
"""The kinds that both the closed form and the dispatch counter report."""


@dataclass(frozen=True)
class LayerDifference:
    """One layer and quantity on which two counters disagree."""

    path: str
    quantity: str
    formula: int
    measured: int

    def __str__(self) -> str:
        return f"{self.path or '(network)'}: {self.quantity}: closed form {self.formula}, measured {self.measured}"


def differences(formula: Count, measured: Count) -> list[LayerDifference]:
    """Every layer where closed form and dispatch disagree, in parameters or in any witnessed kind.

    Operations and parameters outside every layer of the closed form count as disagreements too.
    """
    expected = {layer.path: layer for layer in formula.layers}
    actual = measured.rolled_up(expected)
    found: list[LayerDifference] = []
    for path in sorted({*expected, *actual}):
        left, right = expected.get(path), actual.get(path)
        pairs = {"params": (left.params if left else 0, right.params if right else 0)}
        for kind in WITNESSED_KINDS:
            pairs[kind] = (left.operations.get(kind, 0) if left else 0, right.operations.get(kind, 0) if right else 0)
        found += [LayerDifference(path, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
    return found
