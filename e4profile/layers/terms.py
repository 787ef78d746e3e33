"""Named cost terms: sympy expressions, evaluated exactly for one setting or for a million at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from e4profile.errors import SettingError

Terms = Mapping[str, sp.Expr]


@dataclass(frozen=True)
class Polynomial:
    """An expression as an integer polynomial over an integer denominator, so that division stays exact."""

    expression: sp.Expr
    symbols: tuple[sp.Symbol, ...]
    numerator: Callable[..., Any]
    denominator: Callable[..., Any]

    def __call__(self, values: Mapping[sp.Symbol, int]) -> int:
        """Evaluate with Python integers.

        Raises:
            SettingError: when a symbol has no value or the quotient is not a whole number.
        """
        missing = [str(symbol) for symbol in self.symbols if symbol not in values]
        if missing:
            raise SettingError(f"no value for {', '.join(missing)} in {self.expression}")
        arguments = [int(values[symbol]) for symbol in self.symbols]
        whole, rest = divmod(int(self.numerator(*arguments)), int(self.denominator(*arguments)))
        if rest:
            setting = ", ".join(f"{symbol}={value}" for symbol, value in zip(self.symbols, arguments, strict=True))
            raise SettingError(f"{self.expression} is not a whole number at {setting}")
        return whole

    def many(self, values: Mapping[sp.Symbol, Any]) -> Any:
        """Evaluate with NumPy integer arrays that broadcast together; returns an int64 array.

        The caller keeps the results below 2**63 and the divisions whole.
        """
        arguments = [values[symbol] for symbol in self.symbols]
        return self.numerator(*arguments) // self.denominator(*arguments)


@lru_cache(maxsize=4096)
def compile_expression(expression: sp.Expr) -> Polynomial:
    """Compile an expression once; later calls return the same object."""
    numerator, denominator = sp.fraction(sp.together(sp.sympify(expression)))
    symbols = tuple(sorted(expression.free_symbols, key=str))

    def function(part: sp.Expr) -> Any:
        return sp.lambdify(symbols, sp.horner(part) if part.is_polynomial() else part, modules=[], cse=True)

    return Polynomial(expression, symbols, function(numerator), function(denominator))


def evaluate(terms: Terms, values: Mapping[sp.Symbol, int]) -> dict[str, int]:
    """The value of every named term, exactly.

    Raises:
        SettingError: when a symbol has no value or a term is not a whole number.
    """
    return {name: compile_expression(expression)(values) for name, expression in terms.items()}


def total(terms: Terms) -> sp.Expr:
    """The sum of all terms as one expression."""
    return sp.Add(*terms.values())
