"""A layer's peak as text and as JSON: its timeline of storages, step by step, in symbols and in numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from e4profile.errors import SettingError
from e4profile.layers import LAYERS, EquivariantLayer
from e4profile.layers.storages import COMPUTE, Step, Timeline, timeline_rows, unit_bytes
from e4profile.layers.terms import Terms, evaluate, value
from e4profile.questions.formula.formulas import Values, heading_lines, layer_names, meaning_lines, symbols_of
from e4profile.show.notation import WIDTH, wrapped, written
from e4profile.symbols import Symbol

_DTYPE = torch.float32
"""What the numbers hold for: an element is 4 bytes, and no step is there for the half precisions only."""


def layer_timeline(layer: type[EquivariantLayer]) -> Timeline:
    """A layer's timeline.

    Raises:
        SettingError: for a layer that states none, with those that do.
    """
    if layer.peak is None:
        known = ", ".join(name for name in layer_names() if LAYERS[name].peak is not None)
        raise SettingError(
            f"{layer.__name__} states no timeline of its storages, so its peak has no closed form; these "
            f"layers have one: {known}"
        )
    return layer.peak


def peak_symbols(layer: type[EquivariantLayer]) -> list[Symbol]:
    """Every symbol of the layer's timeline, indicators last."""
    steps = [step for _, step in layer_timeline(layer).steps]
    return symbols_of(expression for step in steps for expression in (step.when, *step.makes.values()))


def peak_text(
    layer: type[EquivariantLayer], values: Values | None = None, assumed: Sequence[Symbol] = (), *, origin: str = ""
) -> str:
    """The timeline as plain text of at most 80 columns: per step what it makes (+) and what is free after it (-).

    Args:
        layer: a layer class with a timeline.
        values: of every symbol; the text then has the number of each storage, the bytes live while each step runs,
            and the most of them, in float32.
        assumed: the symbols whose values were not given.
        origin: where the values come from.

    Raises:
        SettingError: for a layer without a timeline, and where a storage is not a whole number at these values.
    """
    timeline = layer_timeline(layer)
    lines = heading_lines(layer, values, assumed, origin)
    about = (
        "storages of a forward and a backward, in elements of the whole batch: + is made by the step, - is free "
        "after it; the output and the gradients stay; the input and the output's gradient were there before"
    )
    if values is not None:
        about += (
            f"; live: bytes while the step runs, in {str(_DTYPE).removeprefix('torch.')}, on the CPU, storages not "
            "rounded up; steps that these values do not have are left out"
        )
    lines += ["", *textwrap.wrap(about, WIDTH)]
    now = ""
    if values is None:
        for phase, step in timeline.steps:
            lines += [] if phase == now else ["", phase]
            now = phase
            lines += [*_heading(step.name, _condition(step)), *_made(step.makes, timeline.units), *_freed(step.frees)]
    else:
        moments = list(_moments(timeline, values))
        most = max(moment.live_bytes for moment in moments)
        for moment in moments:
            lines += [] if moment.phase == now else ["", moment.phase]
            now = moment.phase
            peak = ", the peak" if moment.live_bytes == most else ""
            lines += _heading(moment.step.name, f"live {moment.live_bytes:,}{peak}")
            lines += [*_made(moment.step.makes, timeline.units, moment.makes), *_freed(moment.frees)]
    return "\n".join([*lines, *meaning_lines(peak_symbols(layer))]) + "\n"


def peak_terms(layer: type[EquivariantLayer], values: Values | None = None) -> list[dict[str, object]]:
    """One object per storage of every step, and one per step that only frees: ``timeline_rows`` with formulas as text.

    Keys besides: ``table`` ("peak"), ``latex``, and with values ``exists`` (of the step, whatever the dtype) and
    ``value``.

    Raises:
        SettingError: for a layer without a timeline, and where a storage is not a whole number at the values.
    """
    found = []
    for row in timeline_rows(layer_timeline(layer)):
        when, elements = row["when"], row["elements"]
        one: dict[str, object] = {
            "table": "peak",
            "pass": row["pass"],
            "step": row["step"],
            "when": None if when is None else written(when),
            "halves": row["halves"],
            "term": row["term"],
            "expression": None if elements is None else str(elements),
            "latex": None if elements is None else written(elements, "latex"),
            "unit": row["unit"],
            "frees": list(row["frees"]) if isinstance(row["frees"], tuple) else [],
        }
        if values is not None:
            one["exists"] = when is None or value(when, values) == 1
            one["value"] = None if elements is None else value(elements, values)
        found.append(one)
    return found


def _condition(step: Step) -> str:
    parts = [] if step.when == 1 else [f"if {written(step.when)}"]
    if step.halves is not None:
        parts.append("float16 and bfloat16 only" if step.halves else "not for float16 and bfloat16")
    return ", ".join(parts)


def _heading(step: str, remark: str) -> list[str]:
    return wrapped(f"  {step}: ", remark) if remark else [f"  {step}"]


def _made(makes: Terms, units: Mapping[str, str], numbers: Mapping[str, int] | None = None) -> Iterator[str]:
    """The storages that a step makes; with numbers those that are there."""
    shown = [name for name in makes if numbers is None or numbers[name]]
    name_width = max(map(len, shown), default=0)
    number_width = 0 if numbers is None else max((len(f"{numbers[name]:,}") for name in shown), default=0)
    for name in shown:
        number = "" if numbers is None else f"{numbers[name]:>{number_width},}  "
        unit = units.get(name, COMPUTE)
        formula = written(makes[name]) + ("" if unit == COMPUTE else f"  ({unit})")
        yield from wrapped(f"    + {name:<{name_width}}  {number}", formula)


def _freed(names: Sequence[str]) -> list[str]:
    return textwrap.wrap(
        ", ".join(names), WIDTH, initial_indent="    - ", subsequent_indent="      ", break_long_words=False
    )


@dataclass(frozen=True)
class _Moment:
    """A step that some values have, in float32.

    Attributes:
        makes: elements by storage.
        frees: those of the step's storages that were there.
        live_bytes: of all storages while the step runs.
    """

    phase: str
    step: Step
    makes: Mapping[str, int]
    frees: tuple[str, ...]
    live_bytes: int


def _moments(timeline: Timeline, values: Values) -> Iterator[_Moment]:
    live: dict[str, int] = {}
    for phase, step in timeline.steps:
        if step.halves or value(step.when, values) != 1:
            continue
        makes = evaluate(step.makes, values)
        for name, elements in makes.items():
            if elements:
                live[name] = elements * unit_bytes(timeline.units.get(name, COMPUTE), _DTYPE)
        freed = tuple(name for name in step.frees if name in live)
        if not freed and not any(makes.values()):
            continue
        yield _Moment(phase, step, makes, freed, sum(live.values()))
        for name in freed:
            del live[name]
