"""Running the guard: every budget and every baseline count as one check with expected and actual.

A configuration's networks are held to budgets and baseline, a network in hand to its budgets alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.errors import E4ProfileError, SettingError, some_of
from e4profile.questions.guard.checks import (
    Check,
    LayerChange,
    check_baseline,
    check_bounds,
    check_budgets,
    layer_changes,
    setting_changes,
)
from e4profile.questions.guard.config import Budgets, GuardConfig, GuardedModel, parse_budgets
from e4profile.records.baseline import (
    QUANTITIES,
    Baseline,
    ModelCosts,
    check_writable,
    read_baseline,
    torch_version,
    write_baseline,
)
from e4profile.witnesses.counts.base import SAY_THE_COST

if TYPE_CHECKING:
    from torch import nn

PASSED, DEVIATION, USAGE, NO_BASELINE = 0, 1, 2, 3
"""Exit codes."""


@dataclass(frozen=True)
class ModelResult:
    """Everything the guard found about one network.

    Attributes:
        name: the network's.
        checks: budgets first, then the baseline.
        before: the committed counts; None where there are none.
        after: the counts now; None for a network that is only in the baseline.
        changes: every layer that moved, by quantity.
        asked: what was asked differently from the baseline: builder, input, arguments.
        notes: what a reader must know, for example operators without a known cost.
        details: of a network that could not be measured, the traceback of its own code.
        exact: whether every operator is known; else the operations are a lower bound.
    """

    name: str
    checks: tuple[Check, ...]
    before: ModelCosts | None
    after: ModelCosts | None
    changes: tuple[LayerChange, ...] = ()
    asked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: str = ""
    exact: bool = True

    @property
    def problems(self) -> list[Check]:
        """Checks that did not pass."""
        return [check for check in self.checks if check.status != "pass"]


@dataclass(frozen=True)
class GuardResult:
    """What a run of the guard found.

    Attributes:
        config: what was guarded.
        models: in the configuration's order, then those that only the baseline has.
        notes: about the run as a whole.
    """

    config: GuardConfig
    models: tuple[ModelResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def checks(self) -> list[Check]:
        """All checks of all networks."""
        return [check for model in self.models for check in model.checks]

    @property
    def exit_code(self) -> int:
        """1 for a deviation, else 2 for a network that is not measured, else 3 for a missing baseline; 0 otherwise."""
        found = {check.status for check in self.checks}
        codes = {"deviation": DEVIATION, "not measured": USAGE, "no baseline": NO_BASELINE}
        return next((code for status, code in codes.items() if status in found), PASSED)


@dataclass
class Guard:
    """A configuration being checked: iterate over ``run`` for progress, then ask for ``result``.

    Attributes:
        config: what to guard.
        update: write the baseline instead of comparing with it; budgets are checked all the same.
        command: how to accept a change, for messages.
    """

    config: GuardConfig
    update: bool = False
    command: str = "e4profile guard --update"
    _found: list[ModelResult] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def run(self) -> Iterator[ModelResult]:
        """Check one network after another; with ``update`` the baseline is written after the last.

        A network that cannot be built or run is ``not measured``; no baseline is written then, nor where an operator
        is unknown, as it would commit a lower bound.

        Raises:
            SettingError: for an unreadable baseline, or one that cannot be written.
        """
        committed = self._committed()
        if self.update and self.config.baseline is not None:
            check_writable(self.config.baseline)
        for entry in self.config.models:
            one = self._check(entry, committed)
            self._found.append(one)
            yield one
        if self.update and self.config.baseline is not None:
            models = {one.name: one.after for one in self._found if one.after is not None}
            missing = [one.name for one in self._found if one.after is None]
            bounds = [
                one.name for one in self._found if any(check.name.startswith("baseline ") for check in one.checks)
            ]
            for names, why in (
                (missing, "because there are no counts for"),
                (bounds, "because there are only lower bounds for"),
            ):
                if names:
                    self._notes.append(f"{self.config.baseline} is not written, {why} {some_of(names)}")
            if missing or bounds:
                return
            write_baseline(self.config.baseline, Baseline(torch_version(), models))
            networks = "1 network" if len(models) == 1 else f"{len(models)} networks"
            self._notes.append(f"wrote {networks} to {self.config.baseline}")
        elif committed is not None:
            self._found += [self._stale(name, committed) for name in committed.models if name not in self._names]

    @property
    def result(self) -> GuardResult:
        """What was found so far."""
        return GuardResult(self.config, tuple(self._found), tuple(self._notes))

    @property
    def _names(self) -> set[str]:
        return {entry.name for entry in self.config.models}

    def _committed(self) -> Baseline | None:
        if self.config.baseline is None:
            if self.update:
                raise SettingError(f"{self.config.file}: baseline = false: there is no baseline to update")
            return None
        try:
            committed = read_baseline(self.config.baseline)
        except SettingError as error:
            if not self.update:
                raise
            self._notes.append(f"replaced: {error}")
            return None
        if committed is not None and committed.torch != torch_version() and not self.update:
            self._notes.append(
                f"the baseline was counted with torch {committed.torch}, this is {torch_version()}: PyTorch may "
                "have moved a count, saved bytes above all"
            )
        return committed

    def _check(self, entry: GuardedModel, committed: Baseline | None) -> ModelResult:
        from e4profile.questions.guard.loading import load, model_costs

        before = committed.models.get(entry.name) if committed else None
        try:
            loaded = load(entry, self.config.folder)
            budgets = entry.budgets
            after = model_costs(entry, loaded, budgets.sized)
            checks = list(check_budgets(entry.name, budgets, loaded, after, before))
        except Exception as error:
            message, details = f"{type(error).__name__}: {error}", traceback.format_exc()
            if isinstance(error, E4ProfileError):
                message, details = str(error), error.details
            check = Check(entry.name, "measured", None, None, "not measured", message)
            return ModelResult(entry.name, (check,), before, None, details=details)
        changes: tuple[LayerChange, ...] = ()
        asked: tuple[str, ...] = ()
        if before is not None:
            changes = tuple(c for name in QUANTITIES for c in layer_changes(before, after, name))
            asked = tuple(setting_changes(before, after))
        unknown = loaded.measured.dispatch.unknown_operators
        if self.config.baseline is not None:
            checks += (
                check_bounds(entry.name, after, unknown)
                if self.update
                else check_baseline(entry.name, before, after, self.command, unknown)
            )
        # a check that they leave undecided has named them
        notes = [text for text in unknown if not any(text in check.message for check in checks)]
        return ModelResult(
            entry.name, tuple(checks), before, after, changes, asked, (*notes, *loaded.subject.notes), exact=not unknown
        )

    def _stale(self, name: str, committed: Baseline) -> ModelResult:
        before = committed.models[name]
        text = (
            f"in the baseline but not in {self.config.file.name}; put it back, or drop it from the baseline with: "
            f"{self.command}"
        )
        check = Check(name, "configured", None, None, "deviation", text)
        return ModelResult(name, (check,), before, None)


def update_command(config: Path | None) -> str:
    """How to accept a change, with the configuration that was asked for."""
    return "e4profile guard --update" if config is None else f"e4profile guard --config {config} --update"


def check_directly(
    model: nn.Module | str, input: Any, folder: Path, arguments: Mapping[str, Any], budgets: Mapping[str, Any]
) -> tuple[ModelCosts, list[str]]:
    """Count a network and hold it to its budgets.

    Args:
        model: a module, which is left as it was found, or what ``build`` may be in a configuration.
        input: ``1x3x32x32``, several such texts, or what ``subjects.inputs.as_example`` takes: (1, 3, 32, 32), a
        tensor, a dict of keyword inputs, a sequence of inputs; a card has its own.
        folder: where relative paths start.
        arguments: of the builder.
        budgets: by the names of ``Budgets``.

    Returns:
        The exact counts, and a message for every budget that is exceeded.

    Raises:
        SettingError: for a budget, an argument or an input that does not exist or fit.
    """
    from e4profile.questions.guard.loading import load, model_costs

    limits = parse_budgets(budgets, "e4profile_check: ")
    texts, given = _inputs(input)
    name = model if isinstance(model, str) else type(model).__name__
    entry = GuardedModel(name, name, texts, arguments, limits)
    loaded = load(entry, folder, given, None if isinstance(model, str) else model)
    costs = model_costs(entry, loaded, limits.sized)
    checks = check_budgets(name, limits, loaded, costs)
    found = [f"{name}: {check.name}: {check.message}" for check in checks if check.status != "pass"]
    if limits == Budgets():
        # the counts are all that was asked for
        found += [
            f"{name}: no exact counts: {text}; {SAY_THE_COST}" for text in loaded.measured.dispatch.unknown_operators
        ]
    return costs, found


def _inputs(given: Any) -> tuple[tuple[str, ...], Any]:
    """Inputs as texts, or as they are in the second place."""
    if given is None:
        return (), None
    if isinstance(given, str):
        return (given,), None
    if not isinstance(given, Sequence) or not given:
        return (), given
    if all(isinstance(one, str) for one in given):
        return tuple(given), None
    if all(type(one) is int for one in given):
        return ("x".join(map(str, given)),), None
    return (), given
