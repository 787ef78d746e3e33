"""Whole numbers of many settings at once: what a topology is walked with in place of its arguments.

A number is kept as a sum of products of the settings' columns, ``3/2 * width * kernel**2 / reduction``, so that a
network's closed form comes out as one formula per quantity, which is evaluated once for all settings. Nothing is
approximated: a quotient is a formula only where it is whole for every setting, and a column of its own otherwise. Where
code asks a question that settings answer differently, they are split by the answer, and each part is walked alone.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import ceil, lcm
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Whole: TypeAlias = "int | Many"
Array: TypeAlias = npt.NDArray[Any]
Monomial: TypeAlias = tuple[tuple[int, int], ...]
"""Columns by number, each with its exponent, in order."""

_INT64 = 2**62
"""A bound of what is computed in 64 bits; the sum of two such numbers still fits."""
_CHUNK = 1 << 15
_MOST_VALUES = 4096


class Split(BaseException):
    """Settings that answer a question differently: no error, so that no code takes it for one.

    Attributes:
        parts: the positions of the settings of each answer.
    """

    def __init__(self, parts: list[Array]) -> None:
        super().__init__("settings differ here")
        self.parts = parts


class TooManyAnswers(BaseException):
    """A question that each of many settings answers in its own way, so that walking them together gains nothing."""


class Columns:
    """The columns of the settings that are walked together, those given and those that follow from them.

    Attributes:
        split: raised last, for whoever called code that may have caught it.
    """

    def __init__(self, given: Mapping[str, Array]) -> None:
        self.names: list[str] = []
        self.arrays: list[Array] = []
        self.lowest: list[int] = []
        self.largest: list[int] = []
        self.split: Split | TooManyAnswers | None = None
        self._derived: dict[Any, Whole] = {}
        self._answers: dict[Any, bool] = {}
        self.given: dict[str, Whole] = {name: self.add(name, array) for name, array in given.items()}

    def add(self, name: str, array: Array) -> Whole:
        """A new column as a number; a plain one where all settings have the same."""
        lowest, largest = int(array.min()), int(array.max())
        if lowest == largest:
            return lowest
        self.names.append(name)
        self.arrays.append(array)
        self.lowest.append(lowest)
        self.largest.append(largest)
        return Many(self, {((len(self.arrays) - 1, 1),): 1})

    def derived(self, key: Any, make: Callable[[], Whole]) -> Whole:
        """What follows from numbers, made once."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def answer(self, key: Any, ask: Callable[[], Array | bool]) -> bool:
        """The one answer of all settings.

        Raises:
            Split: where they differ.
        """
        if key not in self._answers:
            holds = ask()
            if not isinstance(holds, (bool, np.bool_)):
                if holds.any() and not holds.all():
                    self.parted([np.flatnonzero(holds), np.flatnonzero(~holds)])
                holds = holds[0]
            self._answers[key] = bool(holds)
        return self._answers[key]

    def parted(self, parts: list[Array]) -> None:
        """Have the settings walked in parts."""
        self.split = Split(parts)
        raise self.split

    def values(self, terms: Mapping[Monomial, int | Fraction]) -> Array:
        """The value of a formula for every setting: of 64 bits where that is sure to hold them, else Python's."""
        numerators, denominator, wide = self._as_fraction(terms)
        size = len(self.arrays[0])
        found = np.empty(size, dtype=object if wide else np.int64)
        # a chunk's columns stay in the processor's cache
        for start in range(0, size, _CHUNK):
            part = slice(start, min(start + _CHUNK, size))
            powers = _Powers(self.arrays, part, wide)
            total = powers.total(numerators)
            found[part] = total if denominator == _ONE else total // powers.product(*denominator)
        return found

    def _as_fraction(self, terms: Mapping[Monomial, int | Fraction]) -> tuple[_Integral, tuple[Monomial, int], bool]:
        """Whole coefficients over one denominator, and whether 64 bits may be too few."""
        scale = lcm(*(term.denominator for term in terms.values()))
        below: dict[int, int] = {}
        for monomial in terms:
            for column, exponent in monomial:
                below[column] = max(below.get(column, 0), -exponent)
        divisor: Monomial = tuple(sorted((column, exponent) for column, exponent in below.items() if exponent))
        numerators = {_times(monomial, divisor): int(term * scale) for monomial, term in terms.items()}
        return numerators, (divisor, scale), max(self.bound(numerators), self.bound({divisor: scale})) >= _INT64

    def bound(self, terms: Mapping[Monomial, Any]) -> int:
        """A whole number that a formula exceeds for no setting, without its sign."""
        return sum(self._bound(monomial, ceil(abs(term))) for monomial, term in terms.items())

    def _bound(self, monomial: Monomial, factor: int) -> int:
        for column, exponent in monomial:
            factor *= max(abs(self.lowest[column]), abs(self.largest[column]), 1) ** max(exponent, 0)
        return factor


_ONE: tuple[Monomial, int] = ((), 1)
_Integral: TypeAlias = dict[Monomial, int]


class _Powers:
    """Products of powers of one chunk's columns, each made once."""

    def __init__(self, arrays: list[Array], part: slice, wide: bool) -> None:
        self._arrays, self._part, self._wide = arrays, part, wide
        self._known: dict[Monomial, Any] = {(): 1}

    def total(self, numerators: _Integral) -> Any:
        total: Any = 0
        for monomial, factor in numerators.items():
            total = total + self.product(monomial, factor)
        return total

    def product(self, monomial: Monomial, factor: int) -> Any:
        found = self._product(monomial)
        return found if factor == 1 else found * factor

    def _product(self, monomial: Monomial) -> Any:
        known = self._known.get(monomial)
        if known is None:
            *rest, (column, exponent) = monomial
            if not rest and exponent == 1:
                column_values = self._arrays[column][self._part]
                known = column_values.astype(object) if self._wide else column_values
            else:
                smaller = (*rest, (column, exponent - 1)) if exponent > 1 else tuple(rest)
                known = self._product(smaller) * self._product(((column, 1),))
            self._known[monomial] = known
        return known


class Answer:
    """Whether something holds, for each of many settings: one answer in a condition, a number after ``+``."""

    def __init__(self, columns: Columns, sign: Mapping[Monomial, int | Fraction], relation: str) -> None:
        self._columns, self._terms, self._relation = columns, sign, relation

    def __bool__(self) -> bool:
        return self._columns.answer((self._relation, frozenset(self._terms.items())), self._ask)

    def __int__(self) -> int:
        return int(bool(self))

    def __pos__(self) -> Whole:
        """1 where it holds, else 0."""
        key = ("+", self._relation, frozenset(self._terms.items()))

        def made() -> Whole:
            holds = self._ask()
            if isinstance(holds, (bool, np.bool_)):
                return int(holds)
            return self._columns.add(
                f"[{_text(self._columns, self._terms)} {self._relation} 0]", holds.astype(np.int64)
            )

        return self._columns.derived(key, made)

    def _ask(self) -> Array | bool:
        sign = _sign(self._columns, self._terms)
        if sign is not None:
            return _RELATIONS[self._relation](sign, 0)  # type: ignore[no-any-return]
        return _RELATIONS[self._relation](self._columns.values(self._terms), 0)  # type: ignore[no-any-return]


_RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, ">": operator.gt, ">=": operator.ge, "!=": operator.ne,
}  # fmt: skip


def _sign(columns: Columns, terms: Mapping[Monomial, int | Fraction]) -> int | None:
    """1 or -1 where every part of a formula has that sign, whatever the setting."""
    if any(columns.lowest[column] < 1 for monomial in terms for column, _ in monomial):
        return None
    negative = [term < 0 for term in terms.values()]
    return None if any(negative) and not all(negative) else -1 if negative[0] else 1


class Many:
    """A whole number for each of many settings.

    It is added, subtracted, multiplied, divided without rest and compared as a number. Where a plain one is needed, as
    by ``range`` or in a product with a fraction, the settings are split by its values.
    """

    __slots__ = ("columns", "terms")
    is_many = True
    __array_ufunc__ = None

    def __init__(self, columns: Columns, terms: Mapping[Monomial, int | Fraction]) -> None:
        self.columns, self.terms = columns, terms

    # as a sum of products

    def __add__(self, other: Any) -> Any:
        return _sum(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _sum(self, other, -1)

    def __rsub__(self, other: Any) -> Any:
        return -_sum(self, other, -1) if isinstance(other, int) else other - self.single()

    def __neg__(self) -> Any:
        return Many(self.columns, {monomial: -term for monomial, term in self.terms.items()})

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int):
            if other == 0:
                return 0
            return Many(self.columns, {monomial: term * other for monomial, term in self.terms.items()})
        if not isinstance(other, Many):
            return _with_plain(self, other, operator.mul)
        terms: dict[Monomial, int | Fraction] = {}
        for one, factor in self.terms.items():
            for two, second in other.terms.items():
                monomial = _times(one, two)
                terms[monomial] = terms.get(monomial, 0) + factor * second
        return _made(self.columns, terms)

    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Any:
        if not isinstance(exponent, int) or exponent < 0:
            return self.single() ** exponent
        power: Any = 1
        for _ in range(exponent):
            power = self * power
        return power

    def __rpow__(self, base: Any) -> Any:
        return base ** self.single()

    # with a rest

    def __floordiv__(self, other: Any) -> Any:
        return _divided(self, other)[0] if isinstance(other, (int, Many)) else self.single() // other

    def __rfloordiv__(self, other: Any) -> Any:
        return _divided(_number(self.columns, other), self)[0] if isinstance(other, int) else other // self.single()

    def __mod__(self, other: Any) -> Any:
        return _divided(self, other)[1] if isinstance(other, (int, Many)) else self.single() % other

    def __rmod__(self, other: Any) -> Any:
        if isinstance(other, str):
            return other % str(self)
        return _divided(_number(self.columns, other), self)[1] if isinstance(other, int) else other % self.single()

    def __divmod__(self, other: Any) -> Any:
        return _divided(self, other) if isinstance(other, (int, Many)) else divmod(self.single(), other)

    def __rdivmod__(self, other: Any) -> Any:
        return divmod(_number(self.columns, other), self) if isinstance(other, int) else divmod(other, self.single())

    def __truediv__(self, other: Any) -> Any:
        return self.single() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.single()

    # compared

    def _compared(self, other: Any, relation: str) -> Any:
        if not isinstance(other, (int, Many)):
            if isinstance(other, (float, Fraction)):
                return _RELATIONS[relation](self.single(), other)
            return NotImplemented
        difference = self - other
        if isinstance(difference, int):
            return _RELATIONS[relation](difference, 0)
        return Answer(self.columns, difference.terms, relation)

    def __eq__(self, other: object) -> Any:
        return self._compared(other, "==")

    def __ne__(self, other: object) -> Any:
        return self._compared(other, "!=")

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, "<")

    def __le__(self, other: Any) -> Any:
        return self._compared(other, "<=")

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, ">")

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, ">=")

    def __bool__(self) -> bool:
        return bool(self != 0)

    # where a plain number is needed

    def single(self) -> int:
        """The value that all settings have.

        Raises:
            Split: where they have several.
        """
        values, where = np.unique(self.values(), return_inverse=True)
        if len(values) > _MOST_VALUES:
            self.columns.split = TooManyAnswers(f"{self} is needed as a plain number and has {len(values):,} values")
            raise self.columns.split
        if len(values) > 1:
            order = np.argsort(where, kind="stable")
            self.columns.parted(np.split(order, np.cumsum(np.bincount(where))[:-1]))
        return int(values[0])

    def values(self) -> Array:
        """The value for every setting."""
        return self.columns.values(self.terms)

    @property
    def key(self) -> frozenset[tuple[Monomial, int | Fraction]]:
        """Equal for equal formulas."""
        return frozenset(self.terms.items())

    def at_most(self) -> int:
        """A number that it exceeds for no setting."""
        return self.columns.bound(self.terms)

    def __int__(self) -> int:
        return self.single()

    def __index__(self) -> int:
        return self.single()

    def __float__(self) -> float:
        # PyTorch's own layers ask for the fraction of a size only to fill weights, which have no values here
        fills = sys._getframe(1).f_globals.get("__name__", "").startswith("torch.nn.modules.")
        return 1.0 if fills else float(self.single())

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None or digits >= 0 else round(self.single(), digits)

    def __floor__(self) -> Any:
        return self

    __ceil__ = __trunc__ = __floor__

    def __hash__(self) -> int:
        return hash(self.single())

    def __repr__(self) -> str:
        return _text(self.columns, self.terms)

    def __format__(self, form: str) -> str:
        return str(self) if not form else format(self.single(), form)


def values_of(number: Whole | float | Array, size: int) -> Array:
    """The value for each of so many settings, as an array; an array is the values already."""
    if isinstance(number, np.ndarray):
        return number
    if isinstance(number, Many):
        return number.values()
    if isinstance(number, float):
        return np.full(size, number)
    return np.full(size, number, dtype=np.int64 if abs(number) < _INT64 else object)


def _times(one: Monomial, other: Monomial) -> Monomial:
    if not one or not other:
        return one or other
    exponents = dict(one)
    for column, exponent in other:
        exponents[column] = exponents.get(column, 0) + exponent
    return tuple(sorted((column, exponent) for column, exponent in exponents.items() if exponent))


def _made(columns: Columns, terms: dict[Monomial, int | Fraction]) -> Any:
    """The number; a plain one where no column is left."""
    kept: dict[Monomial, int | Fraction] = {}
    for monomial, term in terms.items():
        if term:
            kept[monomial] = term.numerator if term.denominator == 1 else term
    if not kept:
        return 0
    if len(kept) == 1 and () in kept and isinstance(kept[()], int):
        return kept[()]
    return Many(columns, kept)


def _number(columns: Columns, value: Whole) -> Many:
    """A number as a sum of products, also a plain one."""
    return value if isinstance(value, Many) else Many(columns, {(): value} if value else {})


def _sum(one: Many, other: Any, sign: int) -> Any:
    if isinstance(other, int):
        if other == 0:
            return one
        terms = dict(one.terms)
        terms[()] = terms.get((), 0) + sign * other
        return _made(one.columns, terms)
    if not isinstance(other, Many):
        return _with_plain(one, other, operator.add if sign > 0 else operator.sub)
    terms = dict(one.terms)
    for monomial, term in other.terms.items():
        terms[monomial] = terms.get(monomial, 0) + sign * term
    return _made(one.columns, terms)


def _with_plain(one: Many, other: Any, operation: Callable[[Any, Any], Any]) -> Any:
    """The operation with something that only plain numbers know, for example a fraction."""
    if isinstance(other, np.integer):
        return operation(one, int(other))
    return operation(one.single(), other) if isinstance(other, (float, complex, Fraction)) else NotImplemented


def _divided(one: Many, other: Whole) -> tuple[Whole, Whole]:
    """Quotient and rest, as Python rounds them."""
    columns = one.columns
    below = _number(columns, other)
    if not (other != 0):
        raise ZeroDivisionError("integer division or modulo by zero")
    if not one.terms:
        return 0, 0
    key = ("divided", frozenset(one.terms.items()), frozenset(below.terms.items()))
    quotient = columns.derived((*key, "//"), lambda: _quotient(one, below))
    return quotient, columns.derived((*key, "%"), lambda: one - quotient * other)


def _quotient(one: Many, below: Many) -> Whole:
    columns = one.columns
    formula: dict[Monomial, int | Fraction] | None = None
    if len(below.terms) == 1:
        ((divisor, factor),) = below.terms.items()
        inverse: Monomial = tuple((column, -exponent) for column, exponent in divisor)
        formula = {_times(monomial, inverse): Fraction(term) / factor for monomial, term in one.terms.items()}
        if all(term.denominator == 1 and all(power > 0 for _, power in monomial) for monomial, term in formula.items()):
            # of whole columns and whole coefficients: nothing is left over
            return _made(columns, formula)  # type: ignore[no-any-return]
    above, under = columns.values(one.terms), columns.values(below.terms)
    if formula is not None and not (above % under).any():
        return _made(columns, formula)  # type: ignore[no-any-return]
    return columns.add(f"({_text(columns, one.terms)})//({_text(columns, below.terms)})", above // under)


def _text(columns: Columns, terms: Mapping[Monomial, int | Fraction]) -> str:
    products = []
    for monomial, term in terms.items():
        factors = [f"{columns.names[column]}{'' if power == 1 else f'**{power}'}" for column, power in monomial]
        products.append("*".join([*([str(term)] if term != 1 or not factors else []), *factors]))
    return " + ".join(products) or "0"
