"""The proof: closed form = what runs, layer by layer; nothing unknown; every published cell as recorded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError
from e4profile.networks.cards import Card, all_cards, find_card

if TYPE_CHECKING:
    from e4profile.subjects.subject import Target
    from e4profile.witnesses.counts.measure import Measurement


@dataclass(frozen=True)
class CheckResult:
    """What the check of one network found.

    Attributes:
        model: the card's name, or a description of a random setting.
        params: parameters that the built network has.
        macs: MACs that one forward pass executes.
        layers: layers compared.
        cells: published cells compared.
        notes: what a reader must know, a sentence each.
        problems: one line each, naming the layer or cell and both numbers; empty when all holds.
    """

    model: str
    params: int
    macs: int
    layers: int
    cells: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    def row(self) -> dict[str, Any]:
        """The result as one row of a table."""
        return {
            "agrees": self.agrees,
            "model": self.model,
            "params": self.params,
            "macs": self.macs,
            "layers": self.layers,
            "cells": self.cells,
            "problems": len(self.problems),
        }


def select(names: Sequence[str], inputs: Sequence[str], arguments: Mapping[str, Any]) -> list[Card | Target]:
    """The named cards and models of one's own, every card without names; a card goes by its own input.

    Raises:
        SettingError: for inputs or arguments without a model of one's own, or what ``resolve`` refuses.
        UnknownNameError: for an unknown name.
    """
    from e4profile.subjects.subject import is_own, resolve

    if (inputs or arguments) and not any(map(is_own, names)):
        raise SettingError("inputs and arguments are for models of your own: package.module:build or file.py:build")
    if not names:
        return [*select_cards(names)]
    return [resolve(name, inputs, arguments) if is_own(name) else find_card(name) for name in names]


def select_cards(names: Sequence[str]) -> list[Card]:
    """The named cards, or every card.

    Raises:
        UnknownNameError: for an unknown name.
    """
    return [find_card(name) for name in names] if names else list(all_cards().values())


def check_card(card: Card) -> CheckResult:
    """Check one card: its network, then every published cell."""
    from e4profile.questions.table.rows import build_row

    result = check_network(card, card.name)
    problems = list(result.problems)
    cells = 0
    for row in card.published:
        for built in build_row(card, row):
            if not built.judged:
                continue
            cells += 1
            if not built.as_recorded:
                problems.append(
                    f"{card.name}: table {row.table}, row {row.row!r}, {built.cell.quantity}: published "
                    f"{built.cell.value}, built {built.built}: {built.verdict}, but the card records "
                    f"{built.cell.verdict}"
                )
    return CheckResult(result.model, result.params, result.macs, result.layers, cells, tuple(problems))


def check_network(card: Card, label: str) -> CheckResult:
    """Check that closed form and dispatch agree in every layer and that no operator is unknown."""
    from e4profile.witnesses.counts.measure import measure

    return _judged(measure(card, ("closed-form", "dispatch")), label)


def check_target(target: Target) -> CheckResult:
    """Check a model of one's own: every layer that has a closed form, and that no operator is unknown.

    A model in which no layer has one fails: nothing was proven. ``notes`` say how much of the model has a form.

    Raises:
        Whatever ``Target.measure`` raises.
    """
    from e4profile.questions.count.rows import summed_notes

    measured = target.measure(("closed-form", "dispatch"))
    result = _judged(measured, target.name)
    if measured.sizes == "none":
        nothing = f"{target.name}: no layer has a closed form, so nothing is proven: {measured.failures['closed-form']}"
        return replace(result, problems=(*result.problems, nothing), notes=tuple(target.notes))
    notes = [f"{target.name}: {text}" for text in (*measured.notes, *summed_notes(measured))]
    if measured.sizes == "recorded":
        covered, macs = measured.closed.total("macs"), measured.dispatch.macs
        notes.insert(0, f"{target.name}: layers with a closed form run {covered:,} of {macs:,} MACs")
    return replace(result, notes=(*notes, *target.notes))


def _judged(measured: Measurement, label: str) -> CheckResult:
    problems = [f"{label}: {difference}" for difference in measured.differences]
    problems += [
        f"{label}: {', '.join(path or '(network)' for path in measured.dispatch.uncounted_in[name])}: unknown "
        f"operator {name}, executed {times} times"
        for name, times in measured.dispatch.uncounted.items()
    ]
    return CheckResult(
        label, measured.dispatch.params, measured.dispatch.macs, len(measured.closed.layers), 0, tuple(problems)
    )


def random_cards(count: int, seed: int) -> Iterator[tuple[str, Card]]:
    """Random settings of the rot-MNIST stack and the basic ResNet, the same for the same seed."""
    generator = random.Random(seed)
    for index in range(count):
        group = generator.choice(("z2", "C2", "p4", "D1", "D2", "p4m"))
        network = generator.choice(("rot_mnist", "basic_resnet"))
        width = generator.choice((2, 3, 4, 6, 8, 12))
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        arguments: dict[str, Any] = {
            "group": group,
            "width": width,
            "kernel": generator.choice((1, 3, 5, 7)),
            "layer": generator.choice(("e4", "e4", "group")),
            "reduction": generator.choice(divisors),
            "slices": generator.choice(divisors),
            "encoder_norm": generator.random() < 0.5,
            "squeeze_affine": generator.choice(("field", "channel")),
        }
        if network == "rot_mnist":
            arguments["concatenate"] = generator.choice(("both", "kernel", "encoder", "none"))
        else:
            arguments["stride_by"] = generator.choice(("conv", "max_pool"))
        size = generator.randint(28, 41)
        shape = (1, size, size) if network == "rot_mnist" else (3, size, size + generator.randint(0, 3))
        if arguments["layer"] == "group":
            for name in ("reduction", "slices", "encoder_norm", "squeeze_affine", "concatenate"):
                arguments.pop(name, None)
        words = " ".join(f"{name}={value}" for name, value in arguments.items())
        label = f"random {index}: {network} {words} input={shape[1]}x{shape[2]}"
        yield label, Card(f"random-{index}", label, network, shape, arguments)


def run_checks(
    names: Sequence[str] = (),
    random_settings: int = 0,
    seed: int = 0,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Iterator[CheckResult]:
    """Check the named cards and models of one's own (every card without names), then random settings.

    Args:
        names: cards' names or files, ``package.module:build``, ``path/to/file.py:build``.
        random_settings: how many.
        seed: of the random settings.
        inputs: of the models of one's own (see ``e4profile.subjects.inputs.parse_input``).
        arguments: of their builders.

    Raises:
        SettingError: for a negative number of random settings.
        UnknownNameError: for an unknown name.
    """
    if random_settings < 0:
        raise SettingError(f"random (={random_settings}) must not be negative")
    for found in select(names, inputs, arguments or {}):
        yield check_card(found) if isinstance(found, Card) else check_target(found)
    for label, card in random_cards(random_settings, seed):
        yield check_network(card, label)
