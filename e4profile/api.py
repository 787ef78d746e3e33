"""The library's front door: the commands' results as DataFrames with the same names.

Heavy imports happen inside the functions, so that ``import e4profile`` stays instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from e4profile.groups import FiniteGroup
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.equivariance.fields import Declared

    Model = str | nn.Module
    Inputs = Sequence[Any] | Mapping[str, Any] | Tensor


def count(
    model: Model,
    input_shape: Inputs | None = None,
    *,
    counters: Sequence[str] | None = None,
    convention: str = "macs",
    batch_size: int = 1,
    **arguments: Any,
) -> pd.DataFrame:
    """Count one network layer by layer.

    Args:
        model: a card's name, a card file, any module, or ``package.module:build`` or ``path/to/file.py:build``,
            which runs that code.
        input_shape: a shape with its batch, for a module; or a tensor, a dict of keyword inputs, or a sequence of
            positional inputs, each a shape with its batch or a tensor. A network that refuses a shape of three sizes
            as it is given is counted on one image (channels, h, w), and ``notes`` say so.
        counters: which counters to ask; by default closed-form, dispatch, fvcore and thop.
        convention: how operations are added up.
        batch_size: images per forward pass, for a card; or for a shape of three sizes, which then is of one image.
        arguments: overrides of the card's arguments, for example ``width=24``, or of the builder's.

    Returns:
        One row per layer: path, layer, params and a column per counter. ``frame.attrs`` holds the totals by
        counter (``totals``; that of a partial closed form has its ``coverage`` beside, that of what runs
        ``at_least`` where operators are unknown), how much of what runs has a closed form (``coverage``), the gaps
        of the raw counters (``gaps``), operators that the ledger does not know (``unknown``), products that are
        summed and not charged (``summed_products``), why a counter gave no figure (``failures``), where the closed
        form's sizes come from (``sizes``: ``topology``, ``recorded`` from the run, or ``none``), what else a
        reader must know (``notes``) and what was counted on which inputs (``title``).

    Raises:
        UnknownNameError: for an unknown model, argument, counter or convention.
        SettingError: for arguments that the network refuses, or a module without an input shape.
    """
    import pandas as pd

    from e4profile.questions.count.rows import count_columns, count_rows
    from e4profile.subjects.guest import UserCodeError
    from e4profile.witnesses.counts import COUNTERS
    from e4profile.witnesses.counts.measure import Measurement, measure

    counters = COUNTERS if counters is None else counters

    def measured_on(shape: Inputs | None) -> tuple[Subject, Measurement]:
        subject = _resolved(model, shape, "(1, 1, 28, 28)", arguments).at_batch(batch_size)
        return subject, measure(subject, counters)

    notes: list[str] = []
    with _as_raised(model):
        if not _are_three_sizes(input_shape):
            subject, measured = measured_on(input_shape)
        else:
            try:
                subject, measured = measured_on((*[batch_size][: batch_size > 1], *input_shape))
            except UserCodeError:
                if batch_size > 1:
                    raise
                subject, measured = measured_on((1, *input_shape))
                notes = [f"{tuple(input_shape)} is read as one image: the network runs on no input of three sizes"]
    frame = pd.DataFrame(count_rows(measured, counters, convention), columns=count_columns(counters))
    if measured.sizes != "topology" or measured.dispatch.uncounted:
        # a layer without a closed form has no figure, and a column with gaps keeps its whole numbers
        kinds = {"closed_form": "Int64", "agrees": "boolean"}
        frame = frame.astype({name: kind for name, kind in kinds.items() if name in frame})
    counts = {"closed_form": measured.closed, "dispatch": measured.dispatch, **measured.raw}
    marks: dict[str, dict[str, Any]] = {
        "closed_form": {} if measured.coverage.whole else {"coverage": str(measured.coverage)},
        "dispatch": {"at_least": True} if measured.dispatch.uncounted else {},
    }
    frame.attrs = {
        "totals": {
            name: {"params": one.params, "macs": one.total(convention), **marks.get(name, {})}
            for name, one in counts.items()
            if one.layers or name != "closed_form" or not measured.dispatch.layers
        },
        "coverage": str(measured.coverage),
        "gaps": {
            name: {**{cause.name: cause.amount for cause in gap.causes}, "unexplained": gap.unexplained}
            for name, gap in measured.gaps.items()
        },
        "unknown": dict(measured.dispatch.uncounted),
        "summed_products": dict(measured.dispatch.summed_products),
        "failures": dict(measured.failures),
        "sizes": measured.sizes,
        "notes": [*measured.notes, *notes],
        "title": subject.label,
        "convention": convention,
    }
    return frame


def _are_three_sizes(inputs: Inputs | None) -> TypeGuard[Sequence[int]]:
    return isinstance(inputs, Sequence) and len(inputs) == 3 and all(type(size) is int for size in inputs)


def _resolved(model: Model, inputs: Inputs | None, example: str, arguments: dict[str, Any]) -> Subject:
    from e4profile.errors import SettingError
    from e4profile.subjects.subject import InputsMissing, resolve

    try:
        return resolve(model, arguments=arguments, example=inputs)
    except InputsMissing as error:
        raise SettingError(f"a module needs input_shape, for example {example}") from error


@contextmanager
def _as_raised(model: Model) -> Iterator[None]:
    """What a module in hand raises is its caller's own error, and stays as it is."""
    from e4profile.subjects.guest import UserCodeError

    try:
        yield
    except UserCodeError as error:
        if isinstance(model, str) or error.__cause__ is None:
            raise
        raise error.__cause__ from None


def register_operator(name: str, formula: Callable[..., Mapping[str, int]]) -> None:
    """Say what an operator costs, in one line.

    ``e4profile.register_operator("mylib::op", lambda *args, out, **kw: {"convolution": out.numel() * 9})``

    Args:
        name: the operator's qualified name.
        formula: called with the operator's arguments and ``out=``; returns operations by kind.

    Raises:
        SettingError: for a name without a namespace. When the operator runs, UnknownNameError for a kind that no
            convention knows, SettingError for an amount that is not a whole number.
    """
    from e4profile.witnesses.counts import ledger

    ledger.register_operator(name, formula)


def register_free(name: str, family: str = "registered") -> None:
    """Say that an operator costs nothing, for example ``register_free("mylib::shuffle")``.

    Raises:
        SettingError: for a name without a namespace.
    """
    from e4profile.witnesses.counts import ledger

    ledger.register_free(name, family)


def register_group(group: FiniteGroup, *names: str) -> FiniteGroup:
    """The group, which from now on ``--group`` and ``group=`` know by its name, and by others.

    A distribution does without a call: ``c6 = "package.module:C6"`` in its entry points ``e4profile.groups``.

    Args:
        group: derived from ``e4profile.groups.FiniteGroup``.
        names: others.

    Raises:
        SettingError: for a group that is none, or a name that another group has.
    """
    from e4profile import groups

    return groups.register_group(group, *names)


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

    from e4profile.questions.sweep.plans import make_plan
    from e4profile.questions.sweep.sweeps import COLUMNS, Sweep
    from e4profile.records.store import RecordStore
    from e4profile.witnesses.counts.registry import STOCK

    models, group = ([value] if isinstance(value, str) else value for value in (models, group))
    plan = make_plan(models, group, reductions=reduction, slices=slices, kernels=kernel, widths=width)
    running = Sweep(plan, None if out is None else RecordStore(Path(out) / "records.jsonl"))
    for _ in running.run():
        pass
    frame = pd.DataFrame(running.rows(), columns=list(COLUMNS))
    for name in ("params_ratio", "macs_ratio"):
        frame[name] = frame[name].map(lambda ratio: None if ratio is None else float(ratio)).astype(float)
    for name in ("width", "kernel", "reduction", "slices", *STOCK):
        frame[name] = frame[name].astype("Int64")
    frame.attrs = {"skipped": [(skip.setting.describe(), skip.reason) for skip in running.skipped]}
    return frame


def check(
    names: Sequence[str] | str = (),
    *,
    random: int = 0,
    seed: int = 0,
    inputs: Sequence[str] | str = (),
    **arguments: Any,
) -> pd.DataFrame:
    """Check that closed form and measured counts agree, layer by layer, with tolerance 0.

    Args:
        names: card names; every card by default. Also ``package.module:build`` and ``path/to/file.py:build``,
            which runs that code.
        random: also check this many random settings.
        seed: of the random settings.
        inputs: of models of one's own, for example ``"1x3x32x32"`` or ``["image=1x3x32x32", "steps:=4"]``.
        arguments: of their builders.

    Returns:
        One row per network; ``frame.attrs["problems"]`` lists every disagreement, ``frame.attrs["notes"]`` what
        was not covered.

    Raises:
        UnknownNameError: for an unknown name.
        SettingError: for inputs or arguments without a model of one's own.
    """
    import pandas as pd

    from e4profile.questions.check.checks import run_checks

    names, inputs = ([value] if isinstance(value, str) else value for value in (names, inputs))
    results = list(run_checks(names, random, seed, inputs, arguments))
    frame = pd.DataFrame([result.row() for result in results])
    frame.attrs = {
        "problems": [problem for result in results for problem in result.problems],
        "notes": [note for result in results for note in result.notes],
    }
    return frame


def check_equivariance(
    model: Model,
    input_shape: Inputs | None = None,
    *,
    group: FiniteGroup | str | None = None,
    dtype: str = "float64",
    train_steps: int = 1,
    field_in: Declared = None,
    field_out: Declared = None,
    **arguments: Any,
) -> pd.DataFrame:
    """Relative equivariance errors at initialisation, with randomised parameters, and after some training steps.

    Args:
        model: a card's name, a card file, any module, or ``package.module:build`` or ``path/to/file.py:build``,
            which runs that code.
        input_shape: for a module, with its batch; as in ``count``.
        group: the group that acts; by default the network's own, as far as it is exact on the grid.
        dtype: float64 or float32.
        train_steps: optimiser steps on random data.
        field_in: the type of the inputs that are moved, trivial or regular, or their axes, such as ``"B h w (c A)"``:
            of all, of each in order, or of some by name in a dict; by default what the network's attribute
            ``field_in`` declares, or regular for (B, c, A, h, w) and trivial for other maps.
        field_out: that of the outputs; by default what the network's attribute ``field_out`` or its layer declares,
            or can be shown.
        arguments: overrides of the card's arguments, or of the builder's.

    Returns:
        One row per output or layer and group element. ``frame.attrs`` holds ``verdict`` (``equivariant``,
        ``equivariant at initialisation only``, ``equivariant, but not with random parameters``, ``equivariant until
        trained``, ``not equivariant``, or ``not comparable: `` with the reason and the remedy), ``broken`` (the
        innermost layers that break) and ``findings`` (sentences).

    Raises:
        UnknownNameError: for an unknown model, argument or group.
        SettingError: for a network without a group of its own, or a group that is not exact on the grid.
    """
    import pandas as pd

    from e4profile.questions.equivariance.rows import report_rows
    from e4profile.witnesses.equivariance.witness import witness_of

    subject = _resolved(model, input_shape, "(1, 1, 28, 28)", arguments)
    with _as_raised(model):
        report = witness_of(
            subject, group=group, dtype=dtype, train_steps=train_steps, field_in=field_in, field_out=field_out
        )
    frame = pd.DataFrame(report_rows(report, every_element=True))
    frame.attrs = {
        "verdict": report.verdict,
        "broken": [layer.path for layer in report.broken],
        "findings": report.findings,
    }
    return frame


def run_setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Time one setting here and return its record: JSON values in, JSON values out, for any program that maps settings.

    ``run_setting({"network": "e4net", "arguments": {"width": 8}, "pass": "step", "mode": "train", "device": "cuda"})``

    Args:
        setting: ``network`` (a card's name, a card file, ``package.module:build`` or ``path/to/file.py:build``, which
            runs that code), and where they are not the defaults: ``arguments``, ``inputs`` (as ``--input`` takes them),
            ``pass`` (forward, backward, step), ``mode`` (eval, train), ``device``, ``dtype``, ``batch_size``,
            ``threads``, ``loss``, ``compile``, ``graphs``, ``min_run_time_s``, ``max_run_time_s``.

    Returns:
        The record, as a line of ``times.jsonl`` holds it: the raw samples are ``counts.seconds``.

    Raises:
        SettingError: for a setting that cannot be.
        MeasurementError: when nothing could be measured.
        UserCodeError: for what a user-defined model raises.
    """
    from e4profile.records.jobs import setting as settings

    return settings.run_setting(setting)
