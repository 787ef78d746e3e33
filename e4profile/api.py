"""The library's front door: the commands' results as DataFrames with the same names.

Heavy imports happen inside the functions, so that ``import e4profile`` stays instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from e4profile.measure import Measurement

    Model = str | nn.Module


def count(
    model: Model,
    input_shape: Sequence[int] | None = None,
    *,
    counters: Sequence[str] = ("closed-form", "dispatch", "fvcore", "thop"),
    convention: str = "macs",
    batch_size: int = 1,
    **arguments: Any,
) -> pd.DataFrame:
    """Count one network layer by layer.

    Args:
        model: a card's name, a card file, or any module.
        input_shape: (channels, h, w) or (B, channels, h, w), for a module.
        counters: which counters to ask.
        convention: how operations are added up.
        batch_size: images per forward pass, for a card.
        arguments: overrides of the card's arguments, for example ``width=24``.

    Returns:
        One row per layer: path, layer, params and a column per counter. ``frame.attrs`` holds the totals by
        counter (``totals``), the gaps of the raw counters (``gaps``), operators that the ledger does not know
        (``unknown``) and why a counter gave no figure (``failures``).

    Raises:
        UnknownNameError: for an unknown model, argument, counter or convention.
        SettingError: for arguments that the network refuses, or a module without an input shape.
    """
    import pandas as pd

    from e4profile.counts import count_columns, count_rows

    measured = _measure(model, input_shape, counters, batch_size, arguments)
    asked = [name for name in counters if name != "closed-form" or measured.closed.layers]
    frame = pd.DataFrame(count_rows(measured, asked, convention), columns=count_columns(asked))
    counts = {"closed_form": measured.closed, "dispatch": measured.dispatch, **measured.raw}
    frame.attrs = {
        "totals": {
            name: {"params": one.params, "macs": one.total(convention)}
            for name, one in counts.items()
            if one.layers
        },
        "gaps": {
            name: {**{cause.name: cause.amount for cause in gap.causes}, "unexplained": gap.unexplained}
            for name, gap in measured.gaps.items()
        },
        "unknown": dict(measured.dispatch.uncounted),
        "failures": dict(measured.failures),
        "convention": convention,
    }
    return frame


def _measure(
    model: Model,
    input_shape: Sequence[int] | None,
    counters: Sequence[str],
    batch_size: int,
    arguments: dict[str, Any],
) -> Measurement:
    from e4profile.cards import find_card
    from e4profile.errors import SettingError
    from e4profile.measure import measure, measure_module

    if isinstance(model, str):
        return measure(find_card(model).with_arguments(arguments), counters, batch_size)
    if arguments:
        raise SettingError(
            f"{', '.join(arguments)}: only a card's arguments can be overridden, not a module's"
        )
    if input_shape is None:
        raise SettingError("a module needs input_shape, for example (1, 28, 28)")
    shape = tuple(int(size) for size in input_shape)
    return measure_module(model, shape if len(shape) == 4 else (batch_size, *shape), counters)


def sweep(
    models: Sequence[str] | str = ("e4net",),
    *,
    group: Sequence[str] | str = (),
    reduction: Sequence[int] | None = None,
    slices: Sequence[int] | None = None,
    kernel: Sequence[int] | None = None,
    width: Sequence[int] | None = None,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """The grid of E4 settings with the G-CNN of the same topology as baseline.

    Args:
        models: card names.
        group: group names; the card's own by default.
        reduction: values of r.
        slices: values of s.
        kernel: odd values of k.
        width: widths in fields.
        out: a folder for ``records.jsonl``, from which the same call resumes; nothing is stored without it.

    Returns:
        One row per setting with the columns of ``e4profile sweep``. ``frame.attrs["skipped"]`` lists the
        combinations that cannot exist with their reasons.

    Raises:
        UnknownNameError: for an unknown model or group.
        SettingError: for values that no network takes.
    """
    import pandas as pd

    from e4profile.records import RecordStore
    from e4profile.sweeps import COLUMNS, Sweep, make_plan

    models, group = ([value] if isinstance(value, str) else value for value in (models, group))
    plan = make_plan(
        models, group, reductions=reduction, slices=slices, kernels=kernel, widths=width
    )
    running = Sweep(plan, None if out is None else RecordStore(Path(out) / "records.jsonl"))
    for _ in running.run():
        pass
    frame = pd.DataFrame(running.rows(), columns=list(COLUMNS))
    for name in ("params_ratio", "macs_ratio"):
        frame[name] = frame[name].map(lambda ratio: None if ratio is None else float(ratio)).astype(float)
    for name in ("width", "kernel", "reduction", "slices", "fvcore", "thop"):
        frame[name] = frame[name].astype("Int64")
    frame.attrs = {"skipped": [(skip.setting.describe(), skip.reason) for skip in plan.skipped]}
    return frame


def check(names: Sequence[str] | str = (), *, random: int = 0, seed: int = 0) -> pd.DataFrame:
    """Check that closed form and measured counts agree, layer by layer, with tolerance 0.

    Args:
        names: card names; every card by default.
        random: also check this many random settings.
        seed: of the random settings.

    Returns:
        One row per network; ``frame.attrs["problems"]`` lists every disagreement.

    Raises:
        UnknownNameError: for an unknown name.
    """
    import pandas as pd

    from e4profile.checks import run_checks

    results = list(run_checks([names] if isinstance(names, str) else names, random, seed))
    frame = pd.DataFrame([result.row() for result in results])
    frame.attrs = {"problems": [problem for result in results for problem in result.problems]}
    return frame
