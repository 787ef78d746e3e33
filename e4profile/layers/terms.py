"""Named cost terms, evaluated exactly for one setting or for a million at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from e4profile.errors import SettingError, is_many
from e4profile.symbols import Expression, fraction

Term: TypeAlias = Any
"""An ``Expression``, a whole number, or a sympy expression, as a layer from elsewhere may have."""

Terms: TypeAlias = Mapping[str, Term]


def value(term: Term, values: Mapping[Any, int]) -> int:
    """The term's value, in Python's integers.

    Args:
        term: a closed form.
        values: by symbol; symbols of one name are one symbol.

    Raises:
        SettingError: when a symbol has no value or the quotient is not a whole number.
    """
    return _value(term, _by_name(values))


def many(term: Term, values: Mapping[Any, Any]) -> Any:
    """The term's values (int64) at NumPy integer arrays that broadcast together.

    The caller keeps the results below 2**63 and the divisions whole.
    """
    numerator, denominator = _fraction(term, _by_name(values))
    return numerator // denominator


def evaluate(terms: Terms, values: Mapping[Any, int]) -> dict[str, int]:
    """The value of every named term, exactly.

    Raises:
        SettingError: when a symbol has no value or a term is not a whole number.
    """
    named = _by_name(values)
    if any(map(is_many, named.values())):
        return {name: _value(term, named) for name, term in terms.items()}
    # the layers of a network have few sizes, and every witness asks for their costs
    setting = tuple(named.items())
    return {name: _value_at(term, setting) for name, term in terms.items()}


def total(terms: Terms) -> Term:
    """The sum of all terms as one expression."""
    return sum(terms.values())


def _by_name(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(symbol): number for symbol, number in values.items()}


@lru_cache(maxsize=8192)
def _value_at(term: Term, setting: tuple[tuple[str, int], ...]) -> int:
    return _value(term, dict(setting))


def _value(term: Term, values: Mapping[str, int]) -> int:
    try:
        numerator, denominator = _fraction(term, values)
    except KeyError:
        missing = [name for name in _names(term) if name not in values]
        raise SettingError(f"no value for {', '.join(missing)} in {term}") from None
    if is_many(numerator) or is_many(denominator):
        quotient: tuple[int, int] = divmod(numerator, denominator)
    else:
        quotient = divmod(int(numerator), int(denominator))
    whole, rest = quotient
    if rest:
        setting = ", ".join(f"{name}={values[name]}" for name in _names(term))
        raise SettingError(f"{term} is not a whole number at {setting}")
    return whole


def _names(term: Term) -> list[str]:
    return sorted(map(str, term.free_symbols))


def _fraction(term: Term, values: Mapping[str, Any]) -> tuple[Any, Any]:
    if isinstance(term, (int, Expression)):
        return fraction(term, values)
    names, numerator, denominator = _compiled(term)
    arguments = [values[name] for name in names]
    return numerator(*arguments), denominator(*arguments)


@lru_cache(maxsize=4096)
def _compiled(term: Any) -> tuple[list[str], Callable[..., Any], Callable[..., Any]]:
    """The names, the numerator and the denominator of a sympy expression."""
    import sympy as sp

    symbols = sorted(term.free_symbols, key=str)
    above, below = (sp.lambdify(symbols, part, modules=[]) for part in sp.fraction(sp.together(term)))
    return list(map(str, symbols)), above, below
