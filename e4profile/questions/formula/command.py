"""``e4profile formula``: a layer's closed form, term by term."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions.answers import kept
from e4profile.questions.columns import table_of_rows
from e4profile.questions.entry import Entry
from e4profile.questions.options import Inputs, one_subject, overrides
from e4profile.questions.output import Progress, emit, terminal_width

if TYPE_CHECKING:
    from e4profile.layers import EquivariantLayer
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject

_FORMATS = ("text", "latex", "json")


def formula(
    layer: Annotated[
        str | None, typer.Argument(help="A layer, e.g. e4, or a network; without one, the layers.", metavar="LAYER")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A symbol's value, for terms in numbers too: c_in=16,r=2.", metavar="SYMBOL=N"),
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", help="A network whose first such layer gives the values.", metavar="NETWORK")
    ] = None,
    inputs: Inputs = None,
    memory: Annotated[bool, typer.Option("--memory", help="Also what backward keeps; json has it always.")] = False,
    peak: Annotated[
        bool, typer.Option("--peak", help="Instead the storages of a training step: what each step makes and frees.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the card's ratios into a folder (SVG, PNG, CSV).", metavar="DIR")
    ] = None,
    execution: Annotated[
        str, typer.Option("--execution", help="bank (filter banks, as published) or irreps", metavar="NAME")
    ] = "bank",
    output_format: Annotated[
        str, typer.Option("--format", "-f", help="text, latex or json", metavar="FORMAT")
    ] = "text",
) -> None:
    """Show a layer's named cost terms: parameters, MACs, what backward keeps; * marks the paper's own formula.

    With --of NETWORK or --set every term is also evaluated, exactly. What is not given follows: c_out is c_in, w is h,
    the output is as large as the input, the batch is one image, optional parts are absent.
    """
    from e4profile.errors import SettingError, one_of

    one_of("format", output_format, _FORMATS)
    given = overrides(settings)
    numbers_asked = {"--set": bool(given), "--of": of is not None}
    for option, asked in {**numbers_asked, "--peak": peak}.items():
        if asked and layer is None:
            example = {"--set": "--set c_in=16", "--of": "--of e4net"}.get(option, option)
            raise SettingError(f"{option}: name a layer, for example e4profile formula e4 {example}")
    if plot is not None and of is None:
        raise SettingError("--plot draws a network's layers against group convolutions: name it, --of e4net")
    if peak and memory:
        raise SettingError("--memory and --peak are two views of the same storages; give one of them")
    with Progress("formula", 2, quiet=True) as progress:
        from e4profile.questions.figures import check_plot, draw_beside
        from e4profile.questions.formula import formulas, peak_formulas
        from e4profile.questions.formula.network import network_named

        progress.step("PyTorch and the layers")
        network = None if of is None else one_subject(of, None, inputs)
        shown = [] if network is None or (plot is None and kept() is None) else [network]
        check_plot(plot, ("ratio-map",), shown)
        if layer is None:
            progress.step("the text")
            _list(output_format)
            return
        whole = network_named(layer, inputs)
        if whole is not None:
            progress.step("the text")
            _of_network(whole, {**numbers_asked, "--peak": peak, "--memory": memory}, output_format)
            return
        found = formulas.find_layer(layer, execution)
        used = peak_formulas.peak_symbols(found) if peak else formulas.layer_symbols(found)
        numbers, origin = _numbers(found, network, given, {str(symbol) for symbol in used})
        values, assumed = formulas.settings(found, numbers, used) if numbers else (None, [])
        terms = partial(peak_formulas.peak_terms if peak else formulas.formula_terms, found, values)
        progress.step("the text")
    write = peak_formulas.peak_text if peak else partial(formulas.formula_text, memory=memory)
    texts = {
        "text": lambda: write(found, values, assumed, origin=origin),
        "json": lambda: json.dumps(terms(), indent=2) + "\n",
    }
    if not (peak or any(numbers_asked.values())):
        texts["latex"] = partial(formulas.formula_latex, found, memory=memory)

    def shown_terms(asked: str, _: str) -> Table:
        brief = asked.startswith("latex") and kept() is None and not memory
        return _table(found.__name__, [one for one in terms() if not (brief and _is_saved(one))], origin)

    emit(shown_terms, output_format, texts=texts)
    draw_beside(plot, ("ratio-map",) if shown else (), shown)


def _numbers(
    layer: type[EquivariantLayer], of: Subject | None, given: dict[str, Any], used: set[str]
) -> tuple[dict[str, Any], str]:
    """The values that were given, by a card too, and where those of the card come from."""
    if of is None:
        return given, ""
    from e4profile.questions.formula.formulas import values_in

    values, origin = values_in(layer, of, given)
    # a layer knows symbols of all its formulas; one that was given and is not here is for the refusal to name
    return {name: value for name, value in values.items() if name in used or name in given}, origin


def _is_saved(term: Mapping[str, Any]) -> bool:
    return str(term["table"]).startswith("saved")


def _table(title: str, terms: Sequence[Mapping[str, Any]], origin: str = "") -> Table:
    """The terms as rows, for Python."""
    rows = [{key: ", ".join(one) if isinstance(one, list) else one for key, one in term.items()} for term in terms]
    from e4profile.questions.formula.network import TERM_COLUMNS

    return table_of_rows(title, rows, [f"at {origin}"] if origin else [], columns=TERM_COLUMNS)


def _of_network(network: Subject, asked: Mapping[str, bool], output_format: str) -> None:
    """Write the terms of a network's layers."""
    from e4profile.errors import SettingError
    from e4profile.questions.formula.network import network_terms
    from e4profile.show.tables import render, with_columns

    for option, value in asked.items():
        if value:
            raise SettingError(
                f"{option} applies to one layer, and {network.name} is a network with its own values: omit it"
            )
    table = network_terms(network)
    shown = with_columns(table, [one.key for one in table.columns if one.key != "latex"])
    texts = {
        "text": lambda: render(shown, "table", width=terminal_width()),
        "json": lambda: json.dumps(list(table.rows), indent=2) + "\n",
    }
    emit(lambda *_: table, output_format, texts=texts)


def _list(output_format: str) -> None:
    """Write the names of the layers."""
    from e4profile.questions.formula.formulas import find_layer, layer_names, summary

    names = {name: summary(find_layer(name)) for name in layer_names()}
    width = max(map(len, names)) + 2
    lines = [
        line
        for name, meaning in names.items()
        for line in textwrap.wrap(f"{name:<{width}}{meaning}", 80, subsequent_indent=" " * width)
    ]
    text = "\n".join([*lines, "", "one of them: e4profile formula LAYER, for example e4profile formula e4"]) + "\n"
    rows = [{"layer": name, "meaning": meaning} for name, meaning in names.items()]
    texts = {"json": lambda: json.dumps(list(names), indent=2) + "\n", **dict.fromkeys(("text", "latex"), lambda: text)}
    emit(lambda *_: _table("Layers with a formula", rows), output_format, texts=texts)


ENTRY = Entry("count", 3, formula, "Show a layer's named cost terms")
