"""A layer's closed form as text and as LaTeX, straight from its table of named terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sympy as sp

from e4profile.errors import UnknownNameError
from e4profile.layers import LAYERS, EquivariantLayer
from e4profile.symbols import MEANING
from e4profile.terms import Terms, total


def find_layer(name: str) -> type[EquivariantLayer]:
    """A layer class by its name, in any case, with or without ``Conv2d`` or ``2d``; ``e4`` is ``E4Conv2d``.

    Raises:
        UnknownNameError: with the nearest names.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    spellings: dict[str, type[EquivariantLayer]] = {}
    for known, layer in LAYERS.items():
        if layer.has_closed_form():
            for suffix in ("", "2d", "conv2d"):
                if known.lower().endswith(suffix):
                    spellings.setdefault(known.lower().removesuffix(suffix), layer)
    if wanted not in spellings:
        raise UnknownNameError("layer", name, (layer.__name__ for layer in set(spellings.values())))
    return spellings[wanted]


def layer_names() -> list[str]:
    """Every layer with a closed form."""
    return sorted(name for name, layer in LAYERS.items() if layer.has_closed_form())


def _tables(layer: type[EquivariantLayer]) -> Iterator[tuple[str, str, Terms]]:
    yield "params", "parameters", layer.params
    yield "macs", "forward MACs of one image", layer.macs
    yield "elements", "charged by some conventions, per image", layer.elements


def _meanings(layer: type[EquivariantLayer]) -> Mapping[sp.Symbol, str]:
    used: set[Any] = set()
    for _, _, terms in _tables(layer):
        for expression in terms.values():
            used |= sp.sympify(expression).free_symbols
    return {symbol: MEANING[symbol] for symbol in sorted(used, key=str)}


def formula_text(layer: type[EquivariantLayer]) -> str:
    """The named terms, their sums and the symbols, as plain text."""
    lines = [f"{layer.__name__}: {(layer.__doc__ or '').strip().splitlines()[0]}", f"source: {layer.source}"]
    for key, heading, terms in _tables(layer):
        if not terms:
            continue
        printed = layer.printed.get(key, ())
        lines += ["", heading]
        width = max(len(name) for name in (*terms, "printed form"))
        for name, expression in terms.items():
            mark = "  (printed)" if name in printed else ""
            lines.append(f"  {name:<{width}}  {_plain(expression)}{mark}")
        if key != "elements":
            lines.append(f"  {'total':<{width}}  {_plain(sp.factor(total(terms)))}")
        if printed:
            subset = {name: terms[name] for name in printed}
            lines.append(f"  {'printed form':<{width}}  {_plain(sp.factor(total(subset)))}")
    lines += ["", "where"]
    meanings = _meanings(layer)
    width = max((len(str(symbol)) for symbol in meanings), default=0)
    lines += [f"  {symbol!s:<{width}}  {meaning}" for symbol, meaning in meanings.items()]
    return "\n".join(lines) + "\n"


def _plain(expression: sp.Expr) -> str:
    return str(expression).replace("**", "^").replace("*", " ")


def formula_latex(layer: type[EquivariantLayer]) -> str:
    """The named terms and their sums as ``align*`` environments; the terms of the printed form are underlined."""
    blocks = [f"% {layer.__name__}: {layer.source}"]
    for key, heading, terms in _tables(layer):
        if not terms:
            continue
        printed = layer.printed.get(key, ())
        rows = []
        for name, expression in terms.items():
            label = f"\\text{{{name}}}"
            if name in printed:
                label = f"\\underline{{{label}}}"
            rows.append(f"  {label} &= {sp.latex(expression)} \\\\")
        if key != "elements":
            rows.append(f"  \\text{{total}} &= {sp.latex(sp.factor(total(terms)))}")
        else:
            rows[-1] = rows[-1].removesuffix(" \\\\")
        blocks.append("\n".join([f"% {heading}", "\\begin{align*}", *rows, "\\end{align*}"]))
    return "\n".join(blocks) + "\n"


def formula_terms(layer: type[EquivariantLayer]) -> list[dict[str, object]]:
    """One object per term: table, name, expression, whether it is in the printed form."""
    return [
        {
            "table": key,
            "term": name,
            "expression": str(expression),
            "latex": sp.latex(expression),
            "printed": name in layer.printed.get(key, ()),
        }
        for key, _, terms in _tables(layer)
        for name, expression in terms.items()
    ]
