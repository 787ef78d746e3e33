"""The named terms of a network: of every layer that has a closed form, with the values that it has there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from e4profile.errors import SettingError, UnknownNameError, some_of
from e4profile.layers import EquivariantLayer, trace
from e4profile.layers.terms import evaluate
from e4profile.questions.columns import table_of_rows
from e4profile.questions.formula.formulas import find_layer
from e4profile.show.notation import written
from e4profile.show.tables import Column, Table
from e4profile.subjects.copies import materialised
from e4profile.subjects.subject import Subject, names_code, resolve
from e4profile.symbols import B
from e4profile.witnesses.counts.dispatch import count_run
from e4profile.witnesses.counts.recorded import SHAPES_RECORDED, RecordedShapes, count_recorded

if TYPE_CHECKING:
    from e4profile.layers.containers import Step


def network_named(name: Any, inputs: Any = None) -> Subject | None:
    """The network of that name, or in hand; None where it names a layer, or nothing.

    Raises:
        Whatever ``e4profile.subjects.subject.resolve`` raises of a network.
    """
    from e4profile.questions.options import one_subject

    if isinstance(name, type | EquivariantLayer):
        return None
    if isinstance(name, nn.Module) or names_code(name):
        return one_subject(name, None, inputs)
    try:
        find_layer(name)
    except UnknownNameError:
        try:
            return resolve(name)
        except UnknownNameError:
            return None
    return None


def steps_of(subject: Subject) -> tuple[list[Step], list[str]]:
    """Every call of a layer with a closed form, at the sizes that it has there, and what a reader must know.

    The sizes follow from the topology where it says them, else they are recorded from a run.

    Raises:
        SettingError: where no layer has a closed form.
        UserCodeError: for what a user-defined model raises.
    """
    model = subject.build_to_count()
    example = subject.example("meta" if subject.meta_is_enough else "cpu")
    with subject.guarded():
        model = materialised(model, example)
        shape = example.single_shape
        if shape is not None:
            try:
                return list(trace(model, shape)[1]), []
            except SettingError:
                pass  # its layers one by one
        _, found, _ = count_run(model, example, RecordedShapes)
        # which also finds the layers that share parameters
        count_recorded(model, found)
    steps = [step for step in found.steps if step.path not in found.reasons]
    lacking = [f"no closed form: {path or 'the network'}: {reason}" for path, reason in found.reasons.items()]
    if not steps:
        why = f" ({some_of(lacking, '; ', 2)})" if lacking else ""
        raise SettingError(
            f"{subject.name}: none of its layers has a closed form{why}: e4profile count shows what runs; layers of "
            "e4profile.layers and of torch.nn have one, and yours can have one (docs/own_layers.md)"
        )
    return steps, [SHAPES_RECORDED, *lacking]


TERM_COLUMNS = (
    Column("table", "table", "text", priority=85),
    Column("latex", "formula", "text", priority=80, formula=True),
    Column("value", "value", "integer", priority=95),
    Column("printed", "printed", "boolean", priority=30),
    Column("expression", "expression", "text", priority=20),
)
"""Of the named terms, where they mean something else than elsewhere."""

_TABLES = ("params", "macs", "elements", "saved", "saved_constant")


def network_terms(subject: Subject) -> Table:
    """One row per layer and term that is there, evaluated for one image.

    Terms of the tables ``params`` and ``macs`` add up to the closed form of the network.

    Raises:
        Whatever ``steps_of`` raises.
    """
    steps, notes = steps_of(subject)
    rows = [
        {
            "path": step.path,
            "layer": type(step.module).__name__,
            "table": key,
            "term": name,
            "expression": str(terms[name]),
            "latex": written(terms[name], "latex"),
            "printed": name in step.form.printed.get(key, ()),
            "value": value,
        }
        for step in steps
        for key in _TABLES
        for terms in [getattr(step.form, key, None) or {}]
        for name, value in evaluate(terms, {B: 1, **step.dimensions}).items()
        if value
    ]
    title = f"Terms of {subject.title}, one image"
    return table_of_rows(title, rows, notes, columns=TERM_COLUMNS)
