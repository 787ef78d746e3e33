"""``e4profile match``: the setting of a network that costs what another one costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.errors import SettingError, positive
from e4profile.questions import options
from e4profile.questions.entry import Entry
from e4profile.questions.output import check_columns, emit, note, stop_interrupted, waiting

if TYPE_CHECKING:
    from e4profile.questions.match.matching import Match, Point
    from e4profile.show.tables import Column, Table
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.rates import Rate

_NEAR_TIE = 1.05


def match(
    model: Annotated[str, typer.Argument(help=options.MODEL_HELP, metavar=options.MODEL)],
    to: Annotated[
        str | None, typer.Option("--to", help="Another network, or a number: 25k, 3G, 12ms, 2GiB.", metavar="NETWORK|N")
    ] = None,
    params: Annotated[str | None, typer.Option("--params", help="The same as --by params --to N.", metavar="N")] = None,
    macs: Annotated[str | None, typer.Option("--macs", help="The same as --by macs --to N.", metavar="N")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="params [default], macs, time, predicted, memory", metavar="COST")
    ] = None,
    vary: Annotated[
        str,
        typer.Option(
            "--vary",
            help="The argument, with values if you say them: width=8..64..8, act=relu,gelu.",
            metavar="NAME[=VALUES]",
        ),
    ] = "width",
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    to_arguments: Annotated[
        list[str] | None,
        typer.Option("--to-arg", help="Arguments of --to's builder: width=8,depth=2.", metavar="KEY=VALUE"),
    ] = None,
    at_most: Annotated[bool, typer.Option("--at-most", help="The costliest that does not exceed the target.")] = False,
    convention_name: options.Convention = "macs",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Images, for time [1] and memory [2].", metavar="N")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="For time: cpu or cuda", metavar="DEVICE", callback=options.known_device)
    ] = "cpu",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Predict by a file of e4profile calibrate.", metavar="FILE")
    ] = None,
    max_run_time_s: Annotated[
        float, options.duration("--max-run-time-s", "For time: sample each setting at most this long.")
    ] = 2.0,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """Find the width (or another argument) whose cost is nearest to another network's or to a number.

    Parameters and MACs come from the closed form (of a user-defined model: from what one call runs), memory from the
    prediction of a training step, time from measurement of a few settings in turn, with --at-most from the
    calibration of the device; Ctrl-C shows what was measured until then.
    """
    if batch_size is not None:
        positive(**{"--batch-size": batch_size})
    from e4profile.questions.match.targets import PREDICTED, wanted
    from e4profile.subjects.written import parse_varied, size_unit

    by, text, option = _target(to, params, macs, by)
    if at_most and by == "time":
        # what is measured cannot be compared exactly
        by = PREDICTED
    if calibration is not None and by != PREDICTED:
        raise SettingError("--calibration is for predicted times: add --at-most, or --by predicted")
    rates, remarks = _predicting(device, calibration) if by == PREDICTED else (None, ())
    # a number that cannot be is refused before anything is imported
    number = wanted(text, by, option) if isinstance(text, str) else None
    if number is not None and to_arguments:
        raise SettingError(f"--to-arg ({', '.join(to_arguments)}) is for a network, but {option} is the number {text}")
    its = options.inputs_of(model, [model, text], inputs)
    subject = options.one_subject(model, settings, its, arguments, batch_size)
    other: Subject | int | float
    if number is not None:
        other = number
    else:
        its = options.inputs_of(text, [model, text], inputs)
        other = options.one_subject(text, None, its, to_arguments, batch_size, "--to-arg")
        batch = options.given_batch((subject, other)) or subject.batch_size
        subject, other = subject.at_batch(batch), other.at_batch(batch)
    by_form = all(one.costed_whole for one in (subject, other) if not isinstance(one, (int, float)))
    check_columns(*_columns([parse_varied(vary).name], by, "text"))
    with waiting("match") as say:
        if by == "time":
            from e4profile.questions.match.by_time import match_time
            from e4profile.witnesses.timing.in_turn import ForwardInTurn

            timer = ForwardInTurn(device, max_run_time_s, threads=None)
            found = match_time(subject, other, timer, vary=vary, progress=lambda text: note(f"time of {text}"))
        else:
            from e4profile.questions.match.matching import match as exact_match

            found = exact_match(
                subject, other, by=by, vary=vary, convention_name=convention_name, at_most=at_most,
                batch_size=_step_batch(subject.batch_size), rates=rates, progress=say,
            )  # fmt: skip
            found = replace(found, notes=(*remarks, *found.notes))

    def table(output_format: str, units: str) -> Table:
        meaning = _meaning(by, convention_name, subject.batch_size, by_form=by_form)
        people = output_format != "csv" and units != "exact"
        return match_table(found, meaning, size_unit(text) if number is not None and by == "memory" and people else "")

    emit(
        table,
        output_format,
        units,
        texts={"json": lambda: json.dumps(found.as_object(), indent=2) + "\n"},
        facts=lambda: {"setting": dict(found.nearest.setting), "target": found.target},
    )
    if output_format == "json":
        note(*found.notes)
    if found.interrupted:
        stop_interrupted()


def _predicting(device: str, file: Path | None) -> tuple[Mapping[str, Rate], tuple[str, ...]]:
    """The rates that times are predicted by, and what a reader must know of them."""
    from e4profile.questions.calibrate.command import predicting

    return predicting(device, options.threads_used() if file is None else None, file)


def _target(to: str | None, params: str | None, macs: str | None, by: str | None) -> tuple[str, str, str]:
    """The quantity, what to come near to, and the option that said so."""
    given = {"--to": to, "--params": params, "--macs": macs}
    named = [(option, value) for option, value in given.items() if value is not None]
    if len(named) != 1:
        found = " and ".join(option for option, _ in named) or "none"
        raise SettingError(f"give one target: --to MODEL, --to N, --params N or --macs N (found {found})")
    from e4profile.questions.match.targets import is_number, quantity_by_unit

    ((option, value),) = named
    if option == "--to":
        by = by or (quantity_by_unit(value) if isinstance(value, str) else None) or "params"
    else:
        quantity = option.removeprefix("--")
        if by not in (None, quantity):
            raise SettingError(f"--by {by} contradicts {option} {value}")
        by = quantity
        if not is_number(value):
            raise SettingError(f"{option}: {value!r} is not a number such as 25210, 25k, 18.8K or 3G")
    return by, value, option


def _step_batch(batch_size: int | None) -> int:
    """A batch norm over single values refuses one image."""
    return batch_size if batch_size is not None and batch_size > 1 else 2


def _meaning(by: str, convention_name: str, batch_size: int | None, *, by_form: bool) -> str:
    if by == "macs":
        from e4profile.conventions import convention

        of = f"; a batch of {batch_size}" if batch_size not in (None, 1) else ""
        return f"{convention_name}: {convention(convention_name).meaning}{of}"
    from e4profile.questions.time.table import threads_text

    return {
        "params": "parameters by closed form" if by_form else "parameters",
        "memory": f"bytes of a training step at batch {_step_batch(batch_size)}, as predicted: parameters, gradients, "
        "buffers, images and the peak of forward and backward",
        "predicted": f"predicted seconds of a forward pass in evaluation mode at batch {batch_size or 1}",
        "time": f"median seconds of a forward pass at batch {batch_size or 1}, {threads_text(options.threads_used())}",
    }[by]


def _columns(names: Iterable[str], by: str, kind: Any) -> tuple[Column, ...]:
    from e4profile.show.tables import Column

    between = (Column("low", "95% from", kind, priority=70), Column("high", "95% to", kind, priority=70))
    return (
        Column("place", "", "text", priority=100),
        *(Column(name, name.replace("_", " "), "text", priority=95) for name in names),
        Column("value", by, kind, priority=90),
        *(between if by == "time" else ()),
        Column("deviation", "deviation", kind, priority=85),
        Column("deviation_percent", "deviation %", "percent", "dev. %", 60),
    )


def match_table(found: Match, meaning: str, unit: str = "") -> Table:
    """Three rows: the next cheaper setting, the nearest, the next costlier; of times also those that are alike.

    Args:
        found: the settings.
        meaning: of their costs.
        unit: that amounts of memory are shown in (see ``show.numbers.sizes``); exact bytes where it is empty.
    """
    from e4profile.show.numbers import sizes
    from e4profile.show.tables import Table

    kind: Any = (
        "text" if unit else {"time": "seconds", "predicted": "seconds", "memory": "bytes"}.get(found.by, "integer")
    )
    timed = found.by == "time"
    columns = _columns(found.nearest.setting, found.by, kind)
    places = [
        ("below", found.below),
        ("at most" if found.at_most else "nearest", found.nearest),
        ("above", found.above),
    ]
    places[2:2] = [("alike", point) for point in found.alike]
    rows = [_row(place, point, found.target, timed=timed) for place, point in places if point is not None]
    whose = f"{found.target_name}'s " if found.target_name else ""
    target = _with_unit(found.target, found.by)
    if unit:
        target = str(sizes([int(found.target)], unit)[0])
        shown = sizes([row[key] for row in rows for key in ("value", "deviation")], unit)  # type: ignore[misc]
        rows = [
            {**row, "value": value, "deviation": deviation}
            for row, value, deviation in zip(rows, shown[::2], shown[1::2], strict=True)
        ]
    title = f"{found.model} {'of at most' if found.at_most else 'nearest to'} {whose}{target}"
    if found.alike or found.noise:
        words = [word for word, true in (("alike", found.alike), ("noisy", found.noise)) if true]
        title = f"{' and '.join(words).capitalize()}: {title}"
    notes = (*found.notes, *_ends(found), *(() if found.at_most else _near_ties(found)))
    return Table(title, columns, tuple(rows), notes, convention=meaning)


def _row(place: str, point: Point, target: int | float, *, timed: bool) -> dict[str, object]:
    low, high = point.interval or (None, None)
    return {
        "place": place,
        **{name: str(value) for name, value in point.setting.items()},
        "value": point.value,
        **({"low": low, "high": high} if timed else {}),
        "deviation": point.deviation,
        "deviation_percent": 100 * Fraction(point.deviation) / Fraction(target),
    }


def _with_unit(value: int | float, by: str) -> str:
    from e4profile.questions.match.targets import UNITS
    from e4profile.show.numbers import si

    return si(value, "s") if UNITS[by] == "seconds" else f"{value:,} {UNITS[by]}"


def _ends(found: Match) -> list[str]:
    settings = "measured setting" if found.by == "time" else "setting"
    notes = []
    if found.by == "time" and (found.alike or found.interrupted):
        return []
    if found.out_of_reach and found.by != "time":
        end = "above" if found.nearest.deviation < 0 else "below"
        notes.append(f"out of reach: the target lies {end} every {settings} that can be built")
    else:
        notes += [f"no {settings} is cheaper"] if found.below is None else []
        notes += [f"no {settings} is costlier"] if found.above is None else []
    return notes


def _near_ties(found: Match) -> list[str]:
    """A setting on the target's other side that is nearly as near; two on one side are no tie."""
    nearest = found.nearest
    return [
        f"near tie: {', '.join(f'{name} {value}' for name, value in other.setting.items())} misses "
        f"by {abs(other.deviation):,}, the nearest by {abs(nearest.deviation):,}"
        for other in (found.below, found.above)
        if other is not None
        and isinstance(other.value, int)
        and other.deviation * nearest.deviation < 0
        and abs(other.deviation) <= _NEAR_TIE * abs(nearest.deviation)
    ]


ENTRY = Entry("choose", 2, match, "Find the width whose cost is nearest to another network's")
