"""A layer's closed form as text and as LaTeX, straight from its tables of named terms, in symbols and in numbers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e4profile.conventions import ADDITION_KINDS
from e4profile.errors import SettingError, UnknownNameError, one_of
from e4profile.layers import LAYERS, EquivariantLayer
from e4profile.layers.execution import Execution
from e4profile.layers.storages import COMPUTE
from e4profile.layers.terms import Term, Terms, evaluate
from e4profile.questions.formula.executions import comparison_lines, executed
from e4profile.show.latex import float_with
from e4profile.show.notation import WIDTH, is_indicator, reading_order, summands, wrapped, written, written_sum
from e4profile.show.paper import paper
from e4profile.symbols import MEANING, Symbol

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject

PAPER = "paper's formula"
"""What the terms that the layer's source has in its own formula are called, together."""

Values = Mapping[Symbol, int]


@dataclass(frozen=True)
class TermTable:
    """One of a layer's tables: its key, its heading, its terms, and which of them the paper's formula has.

    Attributes:
        summed: whether a total of the terms means something.
    """

    key: str
    heading: str
    terms: Terms
    in_paper: tuple[str, ...] = ()
    summed: bool = True


def find_layer(name: str | type | EquivariantLayer, execution: str = "bank") -> type[EquivariantLayer]:
    """A layer class by its name, in any case, with or without ``Conv2d`` or ``2d``; ``e4`` is ``E4Conv2d``.

    A class in hand, or the class of a layer in hand, is itself.

    Its terms are those of one execution (see ``executed``).

    Raises:
        SettingError: for a layer that does not run that way, or a class without named terms.
        UnknownNameError: with the nearest names.
    """
    if not isinstance(name, str):
        given = name if isinstance(name, type) else type(name)
        if not (issubclass(given, EquivariantLayer) and given.has_closed_form()):
            raise SettingError(f"{given.__name__} is no e4profile.layers.EquivariantLayer with named terms")
        return executed(given, execution)
    wanted = name.lower().replace("-", "").replace("_", "")
    spellings: dict[str, type[EquivariantLayer]] = {}
    for known, layer in LAYERS.items():
        if layer.has_closed_form():
            for suffix in ("", "2d", "conv2d"):
                if known.lower().endswith(suffix):
                    spellings.setdefault(known.lower().removesuffix(suffix), layer)
    if wanted not in spellings:
        raise UnknownNameError("layer", name, (layer.__name__ for layer in set(spellings.values())))
    return executed(spellings[wanted], execution)


def layer_names() -> list[str]:
    """Every layer with a closed form."""
    return sorted(name for name, layer in LAYERS.items() if layer.has_closed_form())


def summary(layer: type[EquivariantLayer]) -> str:
    """What a layer does: the first sentence of its docstring."""
    return (layer.__doc__ or "").strip().splitlines()[0].replace("``", "")


def tables(layer: type[EquivariantLayer], *, memory: bool = True) -> list[TermTable]:
    """The layer's tables that have terms: parameters, MACs, what conventions charge, what is kept for backward.

    The terms are those of the execution by filter banks; ``executed`` gives a layer whose terms are others.

    Args:
        layer: a layer class.
        memory: whether what is kept for backward is among them.
    """
    layer = executed(layer, "bank")

    def of_kind(additions: bool) -> Terms:
        kinds = layer.kinds
        return {name: term for name, term in layer.elements.items() if (kinds.get(name) in ADDITION_KINDS) == additions}

    printed = {
        key: tuple(name for name in layer.printed.get(key, ()) if name in getattr(layer, key))
        for key in ("params", "macs")
    }
    found = (
        TermTable("params", "parameters", layer.params, printed["params"]),
        TermTable("macs", "forward MACs of one image", layer.macs, printed["macs"]),
        TermTable("elements", "charged by some conventions, per image", of_kind(False), summed=False),
        TermTable(
            "additions", "sums and differences, no MACs, per image; of the weight once", of_kind(True), summed=False
        ),
        TermTable("saved", "elements kept for backward, per image", layer.saved or {}),
        TermTable("saved_constant", "elements kept for backward, whatever the batch", layer.saved_constant),
    )
    return [table for table in found if table.terms and (memory or not table.key.startswith("saved"))]


def layer_symbols(layer: type[EquivariantLayer], *, memory: bool = True) -> list[Symbol]:
    """Every symbol of the layer's terms, as a reader meets them: indicators last."""
    shown = tables(layer, memory=memory)
    return symbols_of(expression for table in shown for expression in table.terms.values())


def symbols_of(expressions: Iterable[Term]) -> list[Symbol]:
    """Every symbol of some expressions, as a reader meets them: indicators last."""
    ours = {symbol.name: symbol for symbol in MEANING}
    # a whole number has no symbols, and those of a sympy expression are ours by name
    found = {symbol for expression in expressions for symbol in getattr(expression, "free_symbols", ())}
    used = {ours.get(str(symbol), symbol) for symbol in found}
    return sorted(used, key=lambda symbol: (is_indicator(symbol), reading_order(symbol)))


_FOLLOWS = {
    "c_out": "c_in", "w": "h", "h_out": "h", "w_out": "w", "h_conv": "h_out", "w_conv": "w_out", "n_out": "n_in",
    "k_h": "k", "k_w": "k_h", "A_V": "A", "A_K": "A", "A_in": "A", "A_out": "A", "A_rel": "A",
}  # fmt: skip
"""The symbol whose value another one usually has."""

_USUAL: Mapping[str, Callable[[Mapping[str, int]], int]] = {
    "q": lambda _: 1,
    "alpha": lambda _: 1,
    "B": lambda _: 1,
    "delta_affine": lambda values: int(values.get("A", 1) > 1 and values.get("q", 1) == 1),
    "delta_hidden": lambda values: int(values.get("A", 1) > 1 and values.get("c_in", 1) > values.get("r", 1)),
}
"""The value of a symbol where a layer is as it is by default, from the values of those that were given."""


_EXAMPLES = {"c_in": 16, "A": 4, "k": 5, "h": 28, "n_in": 64}
"""What a refusal proposes for a symbol; 1 for any other."""


def settings(
    layer: type[EquivariantLayer], given: Mapping[str, Any], symbols: Iterable[Symbol] | None = None
) -> tuple[dict[Symbol, int], list[Symbol]]:
    """The value of every symbol of a layer, and which of them were assumed.

    What is not given follows where it usually does: c_out is c_in, w is h, the output is as large as the input,
    a part that a layer has not by default is absent.

    Args:
        layer: a layer class.
        given: values by the name of a symbol.
        symbols: those that need a value; by default the symbols of the layer's tables.

    Raises:
        UnknownNameError: for a symbol that the layer's terms do not have.
        SettingError: for a value that the symbol cannot have, and for symbols that are left without a value.
    """
    known = {str(symbol): symbol for symbol in (layer_symbols(layer) if symbols is None else symbols)}
    for name, value in given.items():
        one_of(f"symbol of {layer.__name__}", name, known)
        least = 0 if is_indicator(known[name]) else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SettingError(f"--set: {name} (={value}) must be a whole number of at least {least}")
    values = {known[name]: int(value) for name, value in given.items()}
    missing, assumed = [], []
    for name, symbol in known.items():
        if symbol in values:
            continue
        value = _assumed(name, symbol, {str(other): number for other, number in values.items()})
        if value is None:
            missing.append(name)
        else:
            values[symbol] = value
            assumed.append(symbol)
    if missing:
        missing = [name for name in missing if _FOLLOWS.get(name) not in missing]
        more = " ".join(f"--set {name}={_EXAMPLES.get(name, 1)}" for name in missing)
        raise SettingError(
            f"{layer.__name__}: no value for {', '.join(missing)}; add for example {more}, or --of CARD for the "
            "values of the first such layer of a card"
        )
    return values, assumed


def follows(name: str, others: Iterable[str]) -> bool:
    """Whether a symbol usually has the value of one of several others, directly or through a third."""
    among = set(others)
    other = _FOLLOWS.get(name)
    while other is not None and other not in among:
        other = _FOLLOWS.get(other)
    return other is not None


def _assumed(name: str, symbol: Symbol, values: Mapping[str, int]) -> int | None:
    other: str | None = name
    while other is not None and other not in values:
        other = _FOLLOWS.get(other)
    if other is not None:
        return values[other]
    if name in _USUAL:
        return _USUAL[name](values)
    return 0 if is_indicator(symbol) else None


def values_in(layer: type[EquivariantLayer], network: Subject, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The values by the name of a symbol at the first such layer of a network, for one image, and where that is.

    Args:
        layer: a layer class.
        network: whose layers are looked through.
        given: values by the name of a symbol, which go before the network's; what follows from them follows.

    Raises:
        SettingError: for a network without such a layer, naming the closed forms that it has.
        UserCodeError: for what a user-defined model raises.
    """
    from e4profile.questions.formula.network import steps_of

    execution: Execution = getattr(layer, "shown_execution", "bank")
    as_shown = execution == (network.execution or "bank")
    steps, _ = steps_of(network if as_shown else network.executed(execution))
    for step in steps:
        if type(step.form).__name__ == layer.__name__:
            found = {str(symbol): int(value) for symbol, value in step.dimensions.items()}
            if execution != "bank" and not any(
                found[str(one)] for one in getattr(type(step.form), "in_irreps_where", ())
            ):
                continue  # it runs by a filter bank whatever is asked
            kept = {name: value for name, value in found.items() if name in given or not follows(name, given)}
            origin = f"{step.path}, the first {layer.__name__} of {network.name}"
            return {"B": 1, **kept, **given}, origin
    names = sorted({type(step.form).__name__ for step in steps if isinstance(step.form, EquivariantLayer)})
    raise SettingError(
        f"--of: {network.name} has no {layer.__name__}; its layers with a formula: {', '.join(names) or 'none'}"
    )


def formula_text(
    layer: type[EquivariantLayer],
    values: Values | None = None,
    assumed: Sequence[Symbol] = (),
    *,
    memory: bool = True,
    origin: str = "",
) -> str:
    """The named terms, their sums and the symbols, as plain text of at most 80 columns.

    Args:
        layer: a layer class.
        values: of every symbol; the text then has a column with the number of each term.
        assumed: the symbols whose values were not given.
        memory: whether to show what is kept for backward.
        origin: where the values come from.

    Raises:
        SettingError: where a term is not a whole number at these values.
    """
    used = layer_symbols(layer, memory=memory)
    shown = None if values is None else {symbol: values[symbol] for symbol in used}
    lines = heading_lines(layer, shown, assumed, origin)
    found = tables(layer, memory=memory)
    for table in found:
        lines += ["", table.heading, *_table_lines(layer, table, values)]
    if any(table.in_paper for table in found):
        lines += ["", f"* in the {PAPER}, the one that the source gives; the rest is not"]
    lines += meaning_lines(used)
    lines += comparison_lines(layer)
    if len(found) < len(tables(layer)):
        lines += ["", "what is kept for backward: --memory; every storage of a training step: --peak"]
    return "\n".join(lines) + "\n"


def heading_lines(
    layer: type[EquivariantLayer], values: Values | None, assumed: Sequence[Symbol], origin: str = ""
) -> list[str]:
    """What the layer is, its source, and the values of its symbols with where they come from."""
    lines = textwrap.wrap(f"{layer.__name__}: {summary(layer)}", WIDTH)
    lines += textwrap.wrap(f"source: {layer.source or 'this package'}", WIDTH)
    lines += textwrap.wrap(f"values: {origin}", WIDTH, subsequent_indent="    ") if origin else []
    return lines + ([] if values is None else _values_lines(values, assumed))


def meaning_lines(symbols: Sequence[Symbol]) -> list[str]:
    """What each symbol stands for."""
    lines = ["", "where"]
    width = max((len(str(symbol)) for symbol in symbols), default=0)
    for symbol in symbols:
        indent = " " * (width + 4)
        text = f"  {symbol!s:<{width}}  {MEANING[symbol]}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False)
    return lines


def _values_lines(values: Values, assumed: Sequence[Symbol]) -> list[str]:
    def listed(names: Iterator[Symbol]) -> str:
        return ", ".join(f"{symbol}={values[symbol]}" for symbol in names)

    order = sorted(values, key=lambda symbol: (is_indicator(symbol), reading_order(symbol)))
    given = listed(symbol for symbol in order if symbol not in assumed)
    lines = textwrap.wrap(f"at: {given}", WIDTH, subsequent_indent="    ")
    if assumed:
        rest = listed(symbol for symbol in order if symbol in assumed)
        lines += textwrap.wrap(f"assumed: {rest}", WIDTH, subsequent_indent="    ")
    return lines


def _table_lines(layer: type[EquivariantLayer], table: TermTable, values: Values | None) -> Iterator[str]:
    numbers = {} if values is None else _numbers(table, values)
    added = sums(table)
    name_width = max(len(name) for name in (*table.terms, *added))
    number_width = max((len(number) for number in numbers.values()), default=0)

    def lead(mark: str, name: str) -> str:
        return f"{mark} {name:<{name_width}}  " + (f"{numbers[name]:>{number_width}}  " if numbers else "")

    for name, expression in table.terms.items():
        unit = layer.saved_as.get(name, COMPUTE) if table.key.startswith("saved") else COMPUTE
        note = "" if unit == COMPUTE else f"  ({unit})"
        yield from wrapped(lead("*" if name in table.in_paper else " ", name), written(expression) + note)
    for name, parts in added.items():
        yield from wrapped(lead("*" if name == PAPER else " ", name), written_sum(list(parts.values())))


def sums(table: TermTable) -> dict[str, Terms]:
    """The sums that say more than the terms: of all, and of those in the paper's formula."""
    found: dict[str, Terms] = {}
    if table.summed and len(table.terms) > 1:
        found["total"] = table.terms
    if 1 < len(table.in_paper) < len(table.terms):
        found[PAPER] = {name: table.terms[name] for name in table.in_paper}
    return found


def _numbers(table: TermTable, values: Values) -> dict[str, str]:
    exact = evaluate(table.terms, values)
    found = dict(exact)
    for name, parts in sums(table).items():
        found[name] = sum(exact[part] for part in parts)
    return {name: f"{number:,}" for name, number in found.items()}


def formula_latex(layer: type[EquivariantLayer], *, memory: bool = True) -> str:
    """The named terms and their sums as ``align*`` environments; the terms of the paper's formula are underlined.

    Sums are broken into lines that fit the column of a paper, in a smaller type where one term is too long for it.
    """
    blocks = [f"% {layer.__name__}: {layer.source}"]
    for table in tables(layer, memory=memory):
        labels = {
            name: f"\\underline{{\\text{{{name}}}}}" if name in table.in_paper else f"\\text{{{name}}}"
            for name in table.terms
        }
        equations = {label: [table.terms[name]] for name, label in labels.items()}
        equations |= {f"\\text{{{name}}}": list(parts.values()) for name, parts in sums(table).items()}
        names = [*table.terms, *sums(table)]
        pieces = {label: [*zip(summands(e), summands(e, "latex"), strict=True)] for label, e in equations.items()}
        widest = max(_points(text) for parts in pieces.values() for text, _ in parts)
        beside = max(_LABEL_POINTS * len(name) for name in names) + _AROUND_POINTS
        factor, size = next((one for one in _SIZES if one[0] * (beside + widest) <= _room()), _SIZES[-1])
        # a term that leaves no room for its name beside it stands below
        below = factor * (beside + widest) > _room()
        rows = []
        for label, parts in pieces.items():
            first, *more = _latex_lines(parts, _room() / factor - (_AROUND_POINTS if below else beside))
            named = [f"  &{label}", f"  &\\quad = {first}"] if below else [f"  {label} &= {first}"]
            rows += [*named, *(f"  &\\quad {line}" for line in more)]
        body = ["\\begin{align*}", " \\\\\n".join(rows), "\\end{align*}"]
        blocks.append("\n".join([f"% {table.heading}", *([f"{{{size}", *body, "\\par}"] if size else body)]))
    return float_with("\n".join(blocks)) + "\n"


_SIZES = ((1.0, ""), (0.925, "\\small"), (0.85, "\\footnotesize"), (0.797, "\\scriptsize"))
"""Types by their factor on widths at 10 pt."""

_GREEK = re.compile("alpha|beta|delta|iota|nu|rho")
_LABEL_POINTS, _SYMBOL_POINTS, _WIDE_POINTS, _AROUND_POINTS = 4.9, 4.6, 9.0, 26.0


def _room() -> float:
    """Points across the column of a paper."""
    return 0.97 * paper().width_inches * 72.27


def _points(text: str) -> float:
    """About as wide as the formula that a text stands for is at 10 pt."""
    signs = _GREEK.sub("d", re.sub(r"[\s_^]", "", text))
    return sum(_WIDE_POINTS if sign.isupper() or sign in "+-" else _SYMBOL_POINTS for sign in signs)


def _latex_lines(parts: list[tuple[str, str]], room: float) -> list[str]:
    """A sum, of each part its text and its LaTeX, in lines of so many points."""
    lines: list[list[str]] = [[]]
    length = 0.0
    for text, latex in parts:
        if length and length + _points(text) > room:
            lines.append([])
            length = 0.0
        lines[-1].append(latex)
        length += _points(text)
    return [" ".join(line) for line in lines]


def formula_terms(layer: type[EquivariantLayer], values: Values | None = None) -> list[dict[str, object]]:
    """One object per term: table, name, expression, whether the paper's formula has it (``printed``), its value.

    Raises:
        SettingError: where a term is not a whole number at the values.
    """
    found = []
    for table in tables(layer):
        numbers = evaluate(table.terms, values) if values is not None else {}
        for name, expression in table.terms.items():
            one: dict[str, object] = {
                "table": table.key,
                "term": name,
                "expression": str(expression),
                "latex": written(expression, "latex"),
                "printed": name in table.in_paper,
            }
            found.append({**one, "value": numbers[name]} if values is not None else one)
    return found
