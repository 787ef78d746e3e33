"""What ``e4profile time`` measures: networks one by one, in turn, term by term, or for the batch that fits a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from e4profile.questions import answers
from e4profile.questions.output import Progress, emit, note

if TYPE_CHECKING:
    from e4profile.errors import E4ProfileError
    from e4profile.show.tables import Table
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import StopRule, TimeRecord


def at_own_batch(choice: PassSetting, card: Subject) -> PassSetting:
    """The setting with the batch of the network's own inputs, where none is asked for."""
    return choice if choice.batch_size is not None else replace(choice, batch_size=card.own_batch)


def described(name: str, choice: PassSetting) -> str:
    """A measurement in words."""
    batch = "inputs as given" if choice.batch_size is None else f"batch of {choice.batch_size}"
    return f"{name}: {choice.pass_}, {choice.mode}, {batch}"


def time_networks(
    cards: Sequence[Subject], choices: Sequence[PassSetting], rule: StopRule, out: Path | None
) -> tuple[list[TimeRecord], list[E4ProfileError]]:
    """Time each network at each setting; what could not be timed is told at once, and the others go on.

    Raises:
        E4ProfileError: when nothing could be timed.
    """
    from e4profile.questions.time.utilisation import with_peak
    from e4profile.subjects.guest import UserCodeError
    from e4profile.witnesses.timing.clock import MeasurementError

    records: list[TimeRecord] = []
    failures: list[E4ProfileError] = []
    with Progress("time", len(cards) * len(choices), quiet=True) as steps:
        for card in cards:
            for choice in choices:
                chosen = at_own_batch(choice, card)
                steps.begin(described(card.full_name, chosen))
                try:
                    record, reason = with_peak(timed(card, chosen, rule), card, chosen)
                    records.append(kept(record, card, out))
                    note(*filter(None, [reason]))
                except UserCodeError as error:
                    failures.append(error)
                except MeasurementError as error:
                    failures.append(MeasurementError(f"{card.full_name}: {error}"))
                steps.step(described(card.full_name, chosen))
    if not records:
        raise _together(failures)
    told: set[str] = set()
    for failure in failures:
        # one traceback serves every setting in which it came
        details = "" if failure.details in told else failure.details
        told.add(failure.details)
        note(f"{failure}\n{details}".rstrip("\n"))
    return records, failures


def _together(failures: Sequence[E4ProfileError]) -> E4ProfileError:
    from e4profile.errors import E4ProfileError

    if len(failures) == 1:
        return failures[0]
    found = E4ProfileError("; ".join(dict.fromkeys(map(str, failures))))
    found.details = "".join(dict.fromkeys(failure.details for failure in failures))
    return found


def timed(card: Subject, choice: PassSetting, rule: StopRule) -> TimeRecord:
    """One timing of one network.

    Raises:
        UserCodeError: for what a user-defined model raises.
        MeasurementError: when the pass cannot run.
    """
    from e4profile.witnesses.timing.measure import measure_time

    network = card.build("cpu")
    with card.guarded(choice.batch_size):
        return measure_time(network, card.batched, choice, rule, name=card.name)


def compare_networks(
    cards: Sequence[Subject], other: Subject, choices: Sequence[PassSetting], rule: StopRule, out: Path | None
) -> Table:
    """Time each network in turn with another one."""
    from e4profile.questions.time.table import comparison_table
    from e4profile.witnesses.timing.measure import Timed, compare_interleaved

    second = Timed(other.name, other.build("cpu"), other.batched)
    found = []
    with Progress("time", len(cards) * len(choices), quiet=True) as steps:
        for card in cards:
            first = Timed(card.name, card.build("cpu"), card.batched)
            for choice in choices:
                chosen = at_own_batch(choice, card)
                text = described(f"{card.full_name} against {other.full_name}", chosen)
                steps.begin(text)
                for one in (card, other):
                    _run_once(one, chosen)
                with card.guarded(chosen.batch_size), other.running():
                    comparison = compare_interleaved(first, second, chosen, rule)
                found.append(
                    replace(
                        comparison, first=kept(comparison.first, card, out), second=kept(comparison.second, other, out)
                    )
                )
                steps.step(text)
    return comparison_table(found)


def _run_once(card: Subject, choice: PassSetting) -> None:
    """Meet the errors of each network where its name is known, before both run in turn."""
    from e4profile.witnesses.timing.passes import prepared

    # neither compilation nor graphs: the errors are those of the network
    plain = replace(choice, compile=False, graphs=False)
    with card.guarded(choice.batch_size), prepared(card.build("cpu"), card.batched, plain) as taken:
        taken.work.call(taken.work.prepare())


def break_down_networks(
    cards: Sequence[Subject],
    choices: Sequence[PassSetting],
    rule: StopRule,
    output_format: str,
    units: str,
    out: Path | None,
    plot: Path | None = None,
) -> list[Table]:
    """Profile each network at each setting, write a table for each and return them.

    ``out`` keeps the records, and ``plot`` gets the figure of all.

    Raises:
        SettingError: for several tables in a format that holds one.
    """
    from e4profile.errors import SettingError
    from e4profile.questions.figures import file_name, save_beside
    from e4profile.questions.options import own_loss_running
    from e4profile.questions.time.figure import breakdown_record, share_plot, share_rows
    from e4profile.questions.time.table import breakdown_table
    from e4profile.records.store import RecordStore
    from e4profile.show.style import check_folder
    from e4profile.witnesses.environment import environment
    from e4profile.witnesses.timing.breakdown import measure_breakdown
    from e4profile.witnesses.timing.passes import fixed_threads

    if len(cards) * len(choices) > 1 and output_format in ("json", "csv"):
        raise SettingError(
            f"--breakdown gives a table per network and setting, and {output_format} holds one: ask for one"
        )
    if plot is not None:
        check_folder(plot)
    tables, records = [], []
    for card in cards:
        network = card.build("cpu")
        for choice in choices:
            chosen = at_own_batch(choice, card)
            text = described(card.full_name, chosen)
            with (
                Progress("time --breakdown", 1, quiet=True) as steps,
                own_loss_running(chosen.loss),
                card.guarded(chosen.batch_size),
            ):
                steps.begin(text)
                found = measure_breakdown(network, card.batched, chosen, name=card.full_name, rule=rule)
                steps.step(text)
            if out is not None or plot is not None or answers.kept() is not None:
                with fixed_threads(chosen.threads) as used:  # as while it was measured
                    records.append(breakdown_record(found, chosen.device, chosen.dtype, used, environment()))
            if out is not None:
                RecordStore(out).append(records[-1])
            tables.append(breakdown_table(found))
            emit(tables[-1], output_format, units)
    if records:
        save_beside(plot, lambda: share_plot(file_name("share", cards), share_rows(records)))
    return tables


def kept(record: TimeRecord, card: Subject, out: Path | None) -> TimeRecord:
    """The record with the network's arguments, appended to a file where there is one."""
    from e4profile.records.store import RecordStore
    from e4profile.records.times import to_record

    label = card.full_name
    record = replace(record, arguments=dict(card.arguments), label="" if label == record.name else label)
    if out is not None:
        RecordStore(out).append(to_record(record))
    return record


def stored(path: Path) -> list[TimeRecord]:
    """The timings of a file.

    Raises:
        SettingError: for a file that does not exist, or a record that lacks a value.
    """
    from e4profile.errors import SettingError
    from e4profile.records.store import RecordStore
    from e4profile.records.times import KIND, from_record

    if not path.exists():
        raise SettingError(f"--join: {path} does not exist")
    store = RecordStore(path)
    found = [from_record(record) for record in store.load() if record.kind == KIND]
    for text in store.notes:
        note(text)
    return found
