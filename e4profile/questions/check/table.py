"""The outcome of a check as a table."""

from __future__ import annotations

from collections.abc import Sequence

from e4profile.errors import some_of
from e4profile.questions.check.checks import CheckResult
from e4profile.show.tables import Column, Table


def check_table(results: Sequence[CheckResult]) -> Table:
    """One row per network; the problems, or that there is none, stand below."""
    problems = [problem for result in results for problem in result.problems]
    count = len(results)
    holds = "the network holds" if count == 1 else f"all {count} networks hold"
    partial = [result for result in results if result.coverage != "whole"]
    if partial:
        named = [result.coverage if count == 1 else f"{result.model} ({result.coverage})" for result in partial]
        holds += f" where {'it has' if count == 1 else 'they have'} a closed form: {some_of(named)}"
    return Table(
        title="Closed form against what runs, per layer, tolerance 0",
        columns=(
            Column("agrees", "agrees", "boolean", priority=100),
            Column("model", "model", "text", priority=90),
            Column("params", "params", "integer", priority=70),
            Column("macs", "MACs", "integer", priority=70),
            Column("layers", "layers", "integer", priority=50),
            Column("cells", "published cells", "integer", "cells", 40),
            Column("problems", "problems", "integer", priority=60),
            Column("coverage", "coverage", "text", priority=65),
        ),
        rows=tuple(result.row() for result in results),
        notes=(*(problems or (holds,)), *(text for result in results for text in result.notes)),
        convention="macs (convolution + linear + aggregation + attention)",
    )
