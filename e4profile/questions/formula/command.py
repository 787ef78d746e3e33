"""``e4profile formula``: a layer's closed form, term by term."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions.entry import Entry
from e4profile.questions.options import overrides
from e4profile.questions.output import Progress

if TYPE_CHECKING:
    from e4profile.layers import EquivariantLayer

_FORMATS = ("text", "latex", "json")


def formula(
    layer: Annotated[
        str | None, typer.Argument(help="A layer, e.g. E4Conv2d or e4; without one, their names.", metavar="LAYER")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A symbol's value, for terms in numbers too: c_in=16, r=2. Repeatable.", metavar="SYMBOL=N"
        ),
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", help="A card whose first such layer gives the values.", metavar="CARD")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Also what backward keeps; json has it always.")] = False,
    peak: Annotated[
        bool, typer.Option("--peak", help="Instead the storages of a training step: what each step makes and frees.")
    ] = False,
    execution: Annotated[
        str, typer.Option("--execution", help="bank (filter banks, as published) or irreps", metavar="NAME")
    ] = "bank",
    output_format: Annotated[
        str, typer.Option("--format", "-f", help="text, latex or json", metavar="FORMAT")
    ] = "text",
) -> None:
    """Show a layer's named cost terms: parameters, MACs, what backward keeps; * marks the paper's own formula.

    With --of CARD or --set every term is also evaluated, exactly. What is not given follows: c_out is c_in, w is h,
    the output is as large as the input, the batch is one image, optional parts are absent.
    """
    from e4profile.errors import SettingError, one_of

    one_of("format", output_format, _FORMATS)
    given = overrides(settings)
    for option, asked, remark in (
        ("--set", bool(given), "gives numbers"),
        ("--of", of is not None, "gives numbers"),
        ("--peak", peak, "is a list of steps"),
    ):
        if asked and layer is None:
            example = {"--set": "--set c_in=16", "--of": "--of e4net"}.get(option, option)
            raise SettingError(f"{option}: name a layer, for example e4profile formula e4 {example}")
        if asked and output_format == "latex":
            raise SettingError(f"{option} {remark}, which --format latex does not show; use text or json")
    if peak and memory:
        raise SettingError("--memory and --peak are two views of the same storages; give one of them")
    with Progress("formula", 2, quiet=True) as progress:
        from e4profile.questions.formula import formulas, peak_formulas

        progress.step("PyTorch and the layers")
        text = _listed(output_format) if layer is None else ""
        if layer is not None:
            found = formulas.find_layer(layer, execution)
            used = peak_formulas.peak_symbols(found) if peak else formulas.layer_symbols(found)
            numbers, origin = _numbers(found, of, given, {str(symbol) for symbol in used})
            values, assumed = formulas.settings(found, numbers, used) if numbers else (None, [])
            if output_format == "json":
                terms = (peak_formulas.peak_terms if peak else formulas.formula_terms)(found, values)
                text = json.dumps(terms, indent=2) + "\n"
            elif peak:
                text = peak_formulas.peak_text(found, values, assumed, origin=origin)
            elif output_format == "latex":
                text = formulas.formula_latex(found, memory=memory)
            else:
                text = formulas.formula_text(found, values, assumed, memory=memory, origin=origin)
        progress.step("the text")
    sys.stdout.write(text)


def _numbers(
    layer: type[EquivariantLayer], of: str | None, given: dict[str, Any], used: set[str]
) -> tuple[dict[str, Any], str]:
    """The values that were given, by a card too, and where those of the card come from."""
    if of is None:
        return given, ""
    from e4profile.questions.formula.formulas import card_values

    values, origin = card_values(layer, of, given)
    # a layer knows symbols of all its formulas; one that was given and is not here is for the refusal to name
    return {name: value for name, value in values.items() if name in used or name in given}, origin


def _listed(output_format: str) -> str:
    from e4profile.questions.formula.formulas import find_layer, layer_names, summary

    names = layer_names()
    if output_format == "json":
        return json.dumps(names, indent=2) + "\n"
    width = max(map(len, names)) + 2
    lines = [
        line
        for name in names
        for line in textwrap.wrap(f"{name:<{width}}{summary(find_layer(name))}", 80, subsequent_indent=" " * width)
    ]
    return "\n".join([*lines, "", "one of them: e4profile formula LAYER, for example e4profile formula e4"]) + "\n"


ENTRY = Entry("count", 3, formula, "Show a layer's named cost terms")
