"""``e4profile formula``: a layer's closed form, term by term."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from e4profile.cli.options import overrides
from e4profile.cli.output import Progress

_FORMATS = ("text", "latex", "json")


def formula(
    layer: Annotated[
        str | None, typer.Argument(help="A layer, e.g. E4Conv2d or e4; without one, their names.", metavar="LAYER")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="The value of a symbol, e.g. --set c_in=16 --set r=2: the terms also in numbers. Repeatable.",
            metavar="SYMBOL=N",
        ),
    ] = None,
    peak: Annotated[
        bool,
        typer.Option("--peak", help="Instead the storages of a training step: what each step makes and frees."),
    ] = False,
    output_format: Annotated[
        str, typer.Option("--format", "-f", help="text, latex or json.", metavar="FORMAT")
    ] = "text",
) -> None:
    """Show a layer's named cost terms: parameters, MACs, what backward keeps; * marks the paper's own formula.

    With --set every term is also evaluated, exactly. What is not given follows: c_out is c_in, w is h, the output is
    as large as the input, the batch is one image, optional parts are absent.
    """
    from e4profile.errors import SettingError, UnknownNameError

    if output_format not in _FORMATS:
        raise UnknownNameError("format", output_format, _FORMATS)
    given = overrides(settings)
    if given and output_format == "latex":
        raise SettingError("--set gives numbers, which --format latex does not show; use text or json")
    if given and layer is None:
        raise SettingError("--set: name a layer, for example e4profile formula e4 --set c_in=16")
    if peak and layer is None:
        raise SettingError("--peak: name a layer, for example e4profile formula e4 --peak")
    if peak and output_format == "latex":
        raise SettingError("--peak is a list of steps, which --format latex does not show; use text or json")
    with Progress("formula", 2, quiet=True) as progress:
        from e4profile import formulas, peak_formulas

        progress.step("PyTorch and the layers")
        text = _listed(output_format) if layer is None else ""
        if layer is not None:
            found = formulas.find_layer(layer)
            used = peak_formulas.peak_symbols(found) if peak else formulas.layer_symbols(found)
            values, assumed = formulas.settings(found, given, used) if given else (None, [])
            if output_format == "json":
                terms = (peak_formulas.peak_terms if peak else formulas.formula_terms)(found, values)
                text = json.dumps(terms, indent=2) + "\n"
            elif peak:
                text = peak_formulas.peak_text(found, values, assumed)
            elif output_format == "latex":
                text = formulas.formula_latex(found)
            else:
                text = formulas.formula_text(found, values, assumed)
        progress.step("the text")
    sys.stdout.write(text)


def _listed(output_format: str) -> str:
    from e4profile.formulas import layer_names

    return (json.dumps(layer_names(), indent=2) if output_format == "json" else "\n".join(layer_names())) + "\n"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("formula")(formula)
