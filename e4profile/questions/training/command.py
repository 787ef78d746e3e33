"""``e4profile training``: what whole trainings cost, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from e4profile.questions import options
from e4profile.questions.entry import Entry, OldName
from e4profile.questions.output import Progress, check_columns, emit, note, stop_interrupted
from e4profile.questions.time.table import threads_text
from e4profile.show.tables import Column, Field, Table, table_of

if TYPE_CHECKING:
    from e4profile.questions.training.training import Budget
    from e4profile.subjects.subject import Subject


def training(
    models: options.Networks,
    settings: options.Overrides = None,
    inputs: options.Inputs = None,
    arguments: options.Arguments = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            help="A card's, or epochs=100,batch_size=64, training_images=50000,optimiser=adam",
            metavar="RECIPE",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Measure a step on cpu or cuda; else none runs.",
            metavar="DEVICE",
            callback=options.known_device,
        ),
    ] = None,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    max_run_time_s: Annotated[
        float, options.duration("--max-run-time-s", "Sample each step at most this long.")
    ] = 10.0,
    plot: options.Plot = None,
    output_format: options.Format = "table",
    units: options.Units = "auto",
) -> None:
    """MACs, steps and memory of whole trainings; with a device also hours, peak memory and energy.

    MACs come from the closed form; a user-defined model without one is counted from what a training step runs, and
    needs a recipe.
    """
    from e4profile.questions.figures import check_plot, draw_beside
    from e4profile.questions.training.figure import check_networks
    from e4profile.questions.training.training import measure_budget
    from e4profile.witnesses.timing.passes import device_named, dtype_named
    from e4profile.witnesses.timing.samples import StopRule

    rule = StopRule(min_run_time_s=min(0.5, max_run_time_s), max_run_time_s=max_run_time_s)
    threads = options.threads_used(threads)
    if device is not None:
        device_named(device)
    dtype_named(dtype)
    subjects = options.several_subjects(models, settings, inputs, arguments)
    if plot is not None:
        check_plot(plot, ("training",), subjects)
        check_networks(subjects)
    recipes = [_recipe(subject, recipe or []) for subject in subjects]
    check_columns(*(column for column, _ in (*_COUNTED, *(_MEASURED if device else ()))))
    found: list[Budget] = []
    with Progress("training", len(subjects), quiet=True) as progress:
        try:
            for subject, chosen in zip(subjects, recipes, strict=True):
                if device is not None:
                    note(f"{subject.name}: a step of {chosen.batch_size} images on {device}")
                found.append(measure_budget(subject, chosen, device=device, dtype=dtype, threads=threads, rule=rule))
                progress.step(subject.name)
        except KeyboardInterrupt:
            if not found:
                raise
    emit(_table(found, device, dtype, threads, len(subjects)), output_format, units)
    draw_beside(plot, ("training",), subjects[: len(found)])
    if len(found) < len(subjects):
        stop_interrupted()


def _recipe(subject: Subject, given: list[str]) -> Any:
    from e4profile.networks.cards import find_card
    from e4profile.questions.training.training import recipe_of
    from e4profile.subjects.named import parse_named, split_named

    texts = [part for text in given for part in split_named(text)]
    named = [text for text in texts if "=" not in text.partition("(")[0]]
    values = options.overrides([text for text in texts if text not in named], "--recipe")
    # a recipe is of the card, whatever arguments are in its name; they are read, so that a slip is found
    parsed = [parse_named(text) for text in named]
    others = [find_card(one.reference).with_arguments(one.arguments) for one in parsed]
    source = others[-1] if others else subject
    return recipe_of(source.name, source.training, values)


def _table(found: list[Budget], device: str | None, dtype: str, threads: int, asked: int) -> Table:
    measured = device is not None
    missing = [f"interrupted: {len(found)} of {asked} networks"] if len(found) < asked else []
    return table_of(
        "Training budgets" + (f" on {device} in {dtype}, {threads_text(threads)}" if measured else ""),
        (*_COUNTED, *_MEASURED) if measured else _COUNTED,
        found,
        (*missing, *_notes(found, measured)),
        convention="macs, forward and backward from the closed form"
        + (" or counted from what runs" if any(one.macs.counted for one in found) else ""),
    )


_COUNTED: tuple[Field, ...] = (
    (Column("network", "network", "text", priority=100), lambda one: one.name),
    (Column("params", "params", "integer", priority=60), lambda one: one.params),
    (Column("batch_size", "batch", "integer", priority=40), lambda one: one.recipe.batch_size),
    (Column("epochs", "epochs", "integer", priority=40), lambda one: one.recipe.epochs),
    (Column("steps", "steps", "integer", priority=70), lambda one: one.recipe.steps),
    (Column("forward_macs", "forward MACs", "integer", priority=30), lambda one: one.macs.forward),
    (Column("backward_macs", "backward MACs", "integer", priority=30), lambda one: one.macs.backward),
    (Column("training_macs", "training MACs", "integer", priority=90), lambda one: one.macs.total),
    (Column("step_bytes", "step memory (predicted)", "bytes", "memory", 80), lambda one: one.memory.step_bytes),
)
_MEASURED: tuple[Field, ...] = (
    (Column("step_s", "step", "seconds", priority=85), lambda one: one.step.record.median_s),
    (Column("step_iqr_s", "step IQR", "seconds", "IQR", 55), lambda one: one.step.record.iqr_s),
    (Column("hours", "device hours", "ratio", "hours", 95), lambda one: one.hours),
    (Column("peak_bytes", "peak (measured)", "bytes", "peak", 50), lambda one: one.step.peak_bytes),
    (Column("energy_kwh", "energy (kWh)", "ratio", "kWh", 75), lambda one: one.energy_kwh),
)


def _notes(found: list[Budget], measured: bool) -> list[str]:
    from e4profile.witnesses.timing.passes import PASS_MEANINGS

    counted = ", ".join(one.name for one in found if one.macs.counted)
    again = ", ".join(one.name for one in found if one.macs.recomputed)
    bounded = ", ".join(one.name for one in found if one.macs.unknown)
    unknown = ", ".join(dict.fromkeys(name for one in found for name in one.macs.unknown))
    notes = [
        *([f"Counted from what a training step runs, because there is no closed form: {counted}."] if counted else []),
        *(
            [f"Backward includes what the fused aggregation computes again, a closed form does not: {again}."]
            if again
            else []
        ),
        *([f"MACs of {bounded} are at least these; unknown operators are not counted: {unknown}."] if unknown else []),
        *dict.fromkeys(f"{one.name}: {said}." for one in found for said in one.memory.notes),
        "Predicted memory is the most a step holds, with parameters and optimiser state, without workspaces.",
    ]
    if not measured:
        return [*notes, "Nothing ran: --device cpu or cuda measures a step and gives hours, peak memory and energy."]
    notes.append(f"A measured step is: {PASS_MEANINGS['step']}. The last batch of an epoch counts as a full one.")
    steps = [one.step for one in found if one.step is not None]
    how = (
        "by the CUDA caching allocator, workspaces included"
        if all(step.record.device == "cuda" for step in steps)
        else "as live storages at 512-byte granularity, without workspaces"
    )
    notes.append(f"Peak: what a step that ran held beyond parameters, optimiser state and input, {how}.")
    if any(step.energy_j is None for step in steps):
        notes.append("No energy: this device's driver does not count it (NVML).")
    from e4profile.witnesses.timing.samples import noise_notes

    records = [step.record for step in steps]
    return notes + noise_notes([one.samples for one in records], "networks", [one.name for one in records])


ENTRY = Entry(
    "choose",
    3,
    training,
    "MACs, steps and memory of whole trainings",
    before={"budget": OldName(training, "e4profile training")},
)
