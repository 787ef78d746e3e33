"""``e4profile match``: the setting of a network that costs what another one costs."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.cli.options import Convention, Format, Overrides, Units, check_format, overrides
from e4profile.cli.output import emit, note
from e4profile.errors import SettingError, positive

if TYPE_CHECKING:
    from e4profile.cards import Card
    from e4profile.matching import Match
    from e4profile.render.tables import Table

_NEAR_TIE = 1.05


def match(
    model: Annotated[str, typer.Argument(help="A card's name or a card file.", metavar="NAME|CARD.toml")],
    to: Annotated[
        str | None,
        typer.Option("--to", help="Another network, or a number: 25k, 3G, 11.69M, 12ms.", metavar="CARD|N"),
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", help="The same as --by params --to N.", metavar="N")
    ] = None,
    macs: Annotated[
        str | None, typer.Option("--macs", help="The same as --by macs --to N.", metavar="N")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="params [default], macs, time or memory.", metavar="QUANTITY")
    ] = None,
    vary: Annotated[
        str,
        typer.Option(
            "--vary", help="width, reduction, slices, channels_per_slice or kernel.", metavar="ARGUMENT"
        ),
    ] = "width",
    settings: Overrides = None,
    convention_name: Convention = "macs",
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Images, for time [1] and memory [2].", metavar="N"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="For time: cpu or cuda.", metavar="DEVICE")] = "cpu",
    max_run_time_s: Annotated[
        float, typer.Option("--max-run-time-s", help="For time: sample at most this long.", metavar="SECONDS")
    ] = 2.0,
    output_format: Format = "table",
    units: Units = "auto",
) -> None:
    """Find the width (or reduction, slices, kernel) whose cost is nearest to another network's or to a number.

    Parameters and MACs come from the closed form, memory from the prediction of a training step, time from
    measurement at a few settings around the match of the MACs.
    """
    check_format(output_format)
    from e4profile.cards import find_card
    from e4profile.matching import match as closed_form_match

    if batch_size is not None:
        positive(**{"--batch-size": batch_size})
    by, target = _target(to, params, macs, by)
    card = find_card(model).with_arguments(overrides(settings))
    if by == "time":
        found = _by_time(card, target, vary, device, batch_size or 1, max_run_time_s)
    else:
        found = closed_form_match(
            card, target, by=by, vary=vary, convention_name=convention_name, batch_size=batch_size or 2
        )
    if output_format == "json":
        sys.stdout.write(json.dumps(found.as_object(), indent=2) + "\n")
        for text in found.notes:
            note(text)
        return
    emit(match_table(found, _meaning(by, convention_name, batch_size or 2)), output_format, units)


def _target(to: str | None, params: str | None, macs: str | None, by: str | None) -> tuple[str, str]:
    given = {"--to": to, "--params": params, "--macs": macs}
    named = [(option, value) for option, value in given.items() if value is not None]
    if len(named) != 1:
        found = " and ".join(option for option, _ in named) or "none"
        raise SettingError(f"give one target: --to CARD, --to N, --params N or --macs N (found {found})")
    ((option, value),) = named
    from e4profile.matching import whole_number
    from e4profile.matching_time import seconds

    if option == "--to":
        return by or ("params" if seconds(value) is None else "time"), value
    quantity = option.removeprefix("--")
    if by not in (None, quantity):
        raise SettingError(f"--by {by} contradicts {option} {value}")
    if whole_number(value) is None:
        raise SettingError(f"{option}: {value!r} is no number such as 25210, 25k, 18.8K or 3G")
    return quantity, value


def _by_time(
    card: Card, target: str, vary: str, device: str, batch_size: int, max_run_time_s: float
) -> Match:
    from e4profile.matching_time import match_time
    from e4profile.timing import measure_time

    def measure(one: Card) -> float:
        record = measure_time(
            one.build("cpu"), one.input, device=device, batch_size=batch_size, name=one.name,
            min_run_time_s=min(0.2, max_run_time_s), max_run_time_s=max_run_time_s,
        )  # fmt: skip
        return float(record.median_s)

    return match_time(card, target, measure, vary=vary, progress=lambda text: note(f"time of {text}"))


def _meaning(by: str, convention_name: str, batch_size: int) -> str:
    if by == "macs":
        from e4profile.conventions import convention

        return f"{convention_name}: {convention(convention_name).meaning}"
    return {
        "params": "parameters by closed form",
        "memory": f"bytes of a training step at batch {batch_size}, as predicted: parameters, gradients, buffers, "
        "images and the peak of forward and backward",
        "time": "median seconds of a forward pass",
    }[by]


def match_table(found: Match, meaning: str) -> Table:
    """Three rows: the next cheaper setting, the nearest, the next costlier."""
    from e4profile.render.tables import Column, Table

    kind: Any = {"time": "seconds", "memory": "bytes"}.get(found.by, "integer")
    columns = (
        Column("place", "", "text", priority=100),
        *(Column(name, name.replace("_", " "), "text", priority=95) for name in found.nearest.setting),
        Column("value", found.by, kind, priority=90),
        Column("deviation", "deviation", kind, priority=85),
        Column("deviation_percent", "deviation %", "percent", "dev. %", 60),
    )
    rows = [
        {
            "place": place,
            **{name: str(value) for name, value in point.setting.items()},
            "value": point.value,
            "deviation": point.deviation,
            "deviation_percent": _percent(point.deviation, found.target),
        }
        for place, point in (("below", found.below), ("nearest", found.nearest), ("above", found.above))
        if point is not None
    ]
    whose = f"{found.target_name}'s " if found.target_name else ""
    exact = f"{found.target:,}" if isinstance(found.target, int) else f"{found.target:.4g}"
    unit = {"params": "parameters", "macs": "MACs", "time": "seconds", "memory": "bytes"}[found.by]
    notes = list(found.notes)
    settings = "measured setting" if found.by == "time" else "setting"
    if found.below is None:
        notes.append(f"no {settings} is cheaper")
    if found.above is None:
        notes.append(f"no {settings} is costlier")
    notes += _near_ties(found)
    title = f"{found.model} nearest to {whose}{exact} {unit}"
    return Table(title, columns, tuple(rows), tuple(notes), convention=meaning)


def _percent(deviation: int | float, target: int | float) -> Fraction:
    return 100 * Fraction(deviation) / Fraction(target)


def _near_ties(found: Match) -> list[str]:
    nearest = found.nearest
    return [
        f"near tie: {', '.join(f'{name} {value}' for name, value in other.setting.items())} is "
        f"{abs(other.deviation):,} away, the nearest {abs(nearest.deviation):,}"
        for other in (found.below, found.above)
        if other is not None
        and found.by != "time"
        and abs(other.deviation) <= _NEAR_TIE * abs(nearest.deviation)
    ]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("match")(match)
