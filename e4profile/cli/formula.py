"""``e4profile formula``: a layer's closed form, term by term."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

_FORMATS = ("text", "latex", "json")


def formula(
    layer: Annotated[
        str | None, typer.Argument(help="A layer, e.g. E4Conv2d or e4.", metavar="LAYER")
    ] = None,
    output_format: Annotated[
        str, typer.Option("--format", "-f", help="text, latex or json.", metavar="FORMAT")
    ] = "text",
) -> None:
    """Show a layer's named cost terms: parameters, MACs, and the part that the paper prints."""
    from e4profile.errors import UnknownNameError
    from e4profile.formulas import find_layer, formula_latex, formula_terms, formula_text, layer_names

    if output_format not in _FORMATS:
        raise UnknownNameError("format", output_format, _FORMATS)
    if layer is None:
        listed = json.dumps(layer_names(), indent=2) if output_format == "json" else "\n".join(layer_names())
        sys.stdout.write(f"{listed}\n")
        return
    found = find_layer(layer)
    if output_format == "json":
        sys.stdout.write(json.dumps(formula_terms(found), indent=2) + "\n")
    else:
        sys.stdout.write(formula_text(found) if output_format == "text" else formula_latex(found))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("formula")(formula)
