"""The symbols of every closed form, declared once, and the expressions that they are joined into.

Sizes are positive integers. An indicator is 1 when a layer has the named part and 0 when it has not, so
that a term which depends on an argument is still said once, in the layer's table.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any


class Expression:
    """A closed form: whole numbers and symbols joined by ``+ - * / **`` and ``least``.

    It is kept as it was written and evaluated by integer arithmetic. Wherever sympy meets it, it is a sympy
    expression: in ``sympy.sympify(term)``, joined with one, as text, and for an attribute that only sympy knows.
    """

    __slots__ = ("_hash", "operation", "parts")

    def __init__(self, operation: str, *parts: Any) -> None:
        self.operation, self.parts = operation, parts
        self._hash = hash((operation, parts))

    def __reduce__(self) -> Any:
        # a hash of text holds in one process only
        return Expression, (self.operation, *self.parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            return NotImplemented
        return self is other or (self.operation, self.parts) == (other.operation, other.parts)

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Any) -> Any:
        return _joined("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return _joined("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return _joined("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _joined("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return _joined("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _joined("*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _joined("/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _joined("/", other, self)

    def __pow__(self, exponent: Any) -> Any:
        return _joined("**", self, exponent) if isinstance(exponent, int) else NotImplemented

    def __neg__(self) -> Any:
        return _joined("*", -1, self)

    @property
    def free_symbols(self) -> set[Symbol]:
        """The symbols that it needs values of."""
        return {symbol for part in self.parts if isinstance(part, Expression) for symbol in part.free_symbols}

    def fraction(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """Numerator and denominator.

        Args:
            values: ints, or NumPy integer arrays that broadcast together, by the name of a symbol.

        Raises:
            KeyError: for a symbol without a value.
        """
        first, second = self.parts
        above, below = fraction(first, values)
        if self.operation == "**":
            above, below = above ** abs(second), below ** abs(second)
            return (above, below) if second >= 0 else (below, above)
        other_above, other_below = fraction(second, values)
        if self.operation == "*":
            return _times(above, other_above), _times(below, other_below)
        if self.operation == "/":
            return _times(above, other_below), _times(below, other_above)
        # one denominator for all parts of a sum: what a symbol stands for is one object
        if below is not other_below:
            above, other_above, below = above * other_below, other_above * below, _times(below, other_below)
        return _OPERATIONS[self.operation](above, other_above), below

    def _sympy_(self) -> Any:
        import sympy as sp

        one, other = map(sp.sympify, self.parts)
        return sp.Min(one, other) if self.operation == "least" else _OPERATIONS[self.operation](one, other)

    def __str__(self) -> str:
        return str(self._sympy_())

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sympy_(), name)


class Symbol(Expression):
    """A size, which is positive, or an indicator, which is 0 or 1.

    Attributes:
        name: as in formulas, settings and messages.
        is_positive: True for a size, None for an indicator, as in sympy.
    """

    __slots__ = ("is_positive", "name")

    def __init__(self, name: str, is_positive: bool | None = True) -> None:
        super().__init__("symbol", name, is_positive)
        self.name, self.is_positive = name, is_positive

    def __reduce__(self) -> Any:
        return Symbol, self.parts

    @property
    def free_symbols(self) -> set[Symbol]:
        """Itself."""
        return {self}

    def fraction(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """Its value over 1."""
        return values[self.name], 1

    def _sympy_(self) -> Any:
        import sympy as sp

        return sp.Symbol(self.name, integer=True, **{"positive" if self.is_positive else "nonnegative": True})

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def fraction(term: Any, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Numerator and denominator of an expression or of a whole number; see ``Expression.fraction``."""
    return term.fraction(values) if isinstance(term, Expression) else (term, 1)


def at(term: Any, values: Mapping[Symbol, int]) -> Any:
    """The term with numbers in the place of some symbols."""
    if isinstance(term, Symbol):
        return values.get(term, term)
    if not isinstance(term, Expression):
        return term
    one, other = (at(part, values) for part in term.parts)
    if one == 0 and term.operation == "/":
        return 0
    if isinstance(one, int) and isinstance(other, int) and term.operation != "/":
        return _OPERATIONS[term.operation](one, other)
    return least(one, other) if term.operation == "least" else _joined(term.operation, one, other)


def least(one: Any, other: Any) -> Any:
    """The smaller of two terms."""
    return min(one, other) if isinstance(one, int) and isinstance(other, int) else Expression("least", one, other)


def _smaller(one: Any, other: Any) -> Any:
    # of two ints or of two arrays
    return (one + other - abs(one - other)) // 2


_OPERATIONS: Mapping[str, Any] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "least": _smaller,
}  # fmt: skip


def _joined(operation: str, one: Any, other: Any) -> Any:
    """The expression, or the other operand where one is a 0 or 1 that leaves it as it is."""
    if not (isinstance(one, (int, Expression)) and isinstance(other, (int, Expression))):
        return NotImplemented
    neutral = 0 if operation in ("+", "-") else 1
    if isinstance(other, int) and other == neutral:
        return one
    if isinstance(one, int) and one == neutral and operation in ("+", "*"):
        return other
    return 0 if operation == "*" and 0 in (one, other) else Expression(operation, one, other)


def _times(one: Any, other: Any) -> Any:
    # an array times 1 would be a new array
    if isinstance(one, int) and one == 1:
        return other
    return one if isinstance(other, int) and other == 1 else one * other


def _size(name: str) -> Symbol:
    return Symbol(name)


def _indicator(name: str) -> Symbol:
    return Symbol(name, is_positive=None)


B = _size("B")
A = _size("A")
c_in, c_out = _size("c_in"), _size("c_out")
h, w = _size("h"), _size("w")
h_out, w_out = _size("h_out"), _size("w_out")
k = _size("k")
k_h, k_w = _size("k_h"), _size("k_w")
r = _size("r")
s = _size("s")
n_groups = _size("n_groups")

h_conv, w_conv = _size("h_conv"), _size("w_conv")
A_V, A_K = _size("A_V"), _size("A_K")
A_rho, n_add, n_cosets = _size("A_rho"), _size("n_add"), _size("n_c")
A_lift, n_lift = _size("A_lift"), _size("n_lift")
affine_pairs = _size("q")

k_gate = _size("k_gate")
D, H, P = _size("D"), _size("H"), _size("P")
n_hidden = _size("n_hidden")

c_spatial = _size("c_s")
W_inside, N_inside, Q_inside = _indicator("W"), _indicator("N"), _indicator("Q")

A_in, A_out, A_rel = _size("A_in"), _size("A_out"), _size("A_rel")
n_k = _size("n_k")
n_grids = _size("n_grids")

n_in, n_out = _size("n_in"), _size("n_out")

has_bias = _indicator("beta")
is_dense = _indicator("delta")
has_affine = _indicator("alpha")
has_encoder_norm = _indicator("nu")
has_encoder_bias, has_squeeze_bias = _indicator("beta_V"), _indicator("beta_K")
is_pooled, is_sampled = _indicator("delta_pool"), _indicator("delta_sample")
is_expanded, is_regrouped = _indicator("delta_affine"), _indicator("delta_hidden")
keeps_input, is_masked = _indicator("delta_input"), _indicator("delta_mask")
is_reference = _indicator("delta_reference")
is_shared_out = _indicator("delta_shares")
is_sliced = _indicator("delta_slice")
is_roomy = _indicator("delta_room")
is_large = _indicator("delta_large")
is_large_encoder, is_large_squeeze = _indicator("delta_large_V"), _indicator("delta_large_K")
is_cropped = _indicator("delta_crop")
is_lifting = _indicator("delta_lift")
in_irreps = _indicator("iota")
encoder_in_irreps, squeeze_in_irreps = _indicator("iota_V"), _indicator("iota_K")

MEANING: dict[Symbol, str] = {
    B: "images in the batch",
    A: "order of the point group",
    c_in: "input fields (channels of a plain layer)",
    c_out: "output fields (channels of a plain layer)",
    h: "input height in pixels",
    w: "input width in pixels",
    h_out: "output height in pixels",
    w_out: "output width in pixels",
    h_conv: "height at which the convolution itself runs",
    w_conv: "width at which the convolution itself runs",
    k: "kernel size",
    k_h: "kernel height",
    k_w: "kernel width",
    r: "reduction ratio: a branch is squeezed to c_in / r fields; the larger, the cheaper",
    s: "slices: stencils per position and group element, each shared by c_out / s fields",
    n_groups: "groups of a grouped plain convolution",
    A_V: "group elements concatenated by the encoder: A, or 1 without concatenation",
    A_K: "group elements concatenated by the kernel branch: A, or 1 without concatenation",
    A_rho: "MACs of a pair of fields in the irrep basis: d^3 summed over the irreps, d^2 by complex type",
    n_cosets: "regular fields of the elements on the grid in one of the group: 1 where all are on the grid",
    n_add: "sums and differences that take one field to its irreps, or back",
    A_lift: "MACs of an image channel and a field in the irrep basis: orbits of the k x k taps, by irreps",
    n_lift: "sums and differences that take the k x k taps of an image channel to the irreps",
    k_gate: "kernel size of a spatial gate",
    D: "channels of one attention head",
    H: "attention heads",
    P: "position features per axis (rows, columns) of one attention head",
    n_hidden: "hidden units of a position network",
    affine_pairs: "affine pairs per field of the squeeze norm: 1, or A for one per channel",
    c_spatial: "input fields that one spatial factor sums over: c_in (g-separable) or 1 (gc-separable)",
    W_inside: "weight elements inside a container",
    N_inside: "norm-weight elements inside a container",
    Q_inside: "convolution MACs, charged at output positions, inside a container",
    is_dense: "1 where the factors are multiplied into a dense filter bank first, else 0",
    A_in: "channels of one input field: A for a regular field, 1 for a trivial one",
    A_out: "channels of one output field: A for a regular field, 1 for a trivial one",
    A_rel: "free kernel functions between two fields: A between regular fields, else 1",
    n_grids: "rotated grids that a kernel is sampled on: A with a regular field on either side, else 1",
    n_k: "ring harmonics that span one kernel function: 1, 6, 11, 18, 31 for k = 1, 3, 5, 7, 9 without a cutoff",
    n_in: "elements of one image's input",
    n_out: "elements of one image's output",
    is_pooled: "1 where a max-pool realises the stride, else 0",
    is_sampled: "1 where a strided branch copies the positions it samples, else 0",
    is_expanded: "1 where one affine pair per field is copied to every group element, else 0",
    is_regrouped: "1 where the hidden maps are copied so that group elements come first, else 0",
    keeps_input: "1 where a pooling keeps its input for backward, else 0",
    is_masked: "1 where dropout draws a mask, else 0",
    is_reference: "1 where the aggregation runs as unfold, multiply, sum, else 0",
    is_roomy: "1 where unfolded values are fewer than the values, else 0",
    is_sliced: "1 where a strided branch slices out the positions it samples, else 0",
    is_large: "1 where a filter bank is so large that its gradient is folded in the same step of autograd, else 0",
    is_large_encoder: "1 where the encoder's filter bank is large: its gradient is folded in the same step, else 0",
    is_large_squeeze: "1 where the squeeze's filter bank is large: its gradient is folded in the same step, else 0",
    is_lifting: "1 where images become regular fields, else 0",
    in_irreps: "1 where the convolution runs in the irrep basis, else 0",
    encoder_in_irreps: "1 where the encoder runs in the irrep basis, else 0",
    squeeze_in_irreps: "1 where the squeeze runs in the irrep basis, else 0",
    is_cropped: "1 where a crop drops any pixel, else 0",
    is_shared_out: "1 where the channels are shared out to several pool sizes, else 0",
    has_bias: "1 with a bias, else 0",
    has_affine: "1 with an affine pair, else 0",
    has_encoder_norm: "1 with a batch norm on the encoder branch, else 0",
    has_encoder_bias: "1 where the encoder has a bias (no concatenation), else 0",
    has_squeeze_bias: "1 where the squeeze has a bias (no concatenation), else 0",
}
"""What each symbol stands for, for documentation and ``e4profile formula``."""
