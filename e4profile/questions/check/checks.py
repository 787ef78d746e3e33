"""The proof: closed form = what runs, layer by layer; nothing unknown; every published cell as recorded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from e4profile.errors import E4ProfileError, SettingError, not_negative, some_of
from e4profile.networks.cards import Card, all_cards
from e4profile.questions.columns import COLUMNS, table_of_rows
from e4profile.questions.options import executed, resolve_together
from e4profile.questions.published.rows import CANNOT_RUN, NOT_INSTALLED
from e4profile.show.tables import Column, Table
from e4profile.subjects.card_code import NotInstalled
from e4profile.subjects.written import described

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject


@dataclass(frozen=True)
class CheckResult:
    """What the check of one network found.

    Attributes:
        model: the card's name, or a description of a random setting.
        params: parameters that the built network has.
        macs: MACs that one forward pass executes.
        layers: layers compared.
        cells: published cells compared.
        problems: one line each, naming the layer or cell and both numbers; empty when all holds.
        coverage: how much of the network the verdict is about: ``whole``, ``none``, for example ``partial: 0.002% of
            the MACs, 4% of the parameters``, or ``all but 28 MACs of summed products, which are not charged``.
        notes: what a reader must know, a sentence each.
        installed: whether there was anything to check that runs; params and macs are None otherwise.
    """

    model: str
    params: int | None
    macs: int | None
    layers: int
    cells: int
    problems: tuple[str, ...]
    coverage: str = "whole"
    notes: tuple[str, ...] = ()
    installed: bool = True

    @property
    def agrees(self) -> bool:
        """Whether everything holds that the coverage includes; not where nothing could be checked."""
        return self.installed and not self.problems

    def row(self) -> dict[str, Any]:
        """The result as one row of a table."""
        shown = {name: value for name, value in vars(self).items() if name not in ("notes", "installed")}
        agrees = self.agrees if self.installed else None
        return {"agrees": agrees, **shown, "problems": len(self.problems), "partial": self.coverage != "whole"}


SHOWN = (
    # a yes about a part of a network says so itself
    replace(COLUMNS["agrees"], doubted_by="partial"),
    COLUMNS["model"],
    COLUMNS["params"],
    COLUMNS["macs"],
    Column("layers", "layers", "integer", priority=50),
    Column("cells", "published cells", "integer", "cells", 40),
    Column("problems", "problems", "integer", priority=60),
    Column("coverage", "coverage", "text", priority=65),
    Column("partial", "partial", "boolean", priority=5, doubt=True),
)


def check_table(results: Sequence[CheckResult]) -> Table:
    """One row per network; the problems, or that there is none, stand below."""
    problems = [problem for result in results for problem in result.problems]
    checked = [result for result in results if result.installed]
    one = len(results) == 1
    holds = "the network holds" if one else f"all {len(results)} networks hold"
    if len(checked) < len(results):
        holds = f"{len(checked)} of {len(results)} networks hold, the others are not checked"
    if not checked:
        holds = "nothing is checked, so nothing is proven"
    partial = [result for result in checked if result.coverage != "whole"]
    if partial:
        named = [result.coverage if one else f"{result.model} ({result.coverage})" for result in partial]
        holds += f" where {'it has' if one else 'they have'} a closed form: {some_of(named)}"
    return table_of_rows(
        "Closed form against what runs, per layer, tolerance 0",
        [result.row() for result in results],
        (*(problems or (holds,)), *(text for result in results for text in result.notes)),
        "macs (convolution + linear + aggregation + attention)",
        keys=[column.key for column in SHOWN],
        columns=SHOWN,
    )


def select(
    names: Sequence[str],
    inputs: Sequence[str] | None,
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> list[Subject]:
    """The named networks, every card without names; a card goes by its own input.

    Raises:
        SettingError: for inputs or arguments where no name is code, or what ``resolve`` refuses.
        UnknownNameError: for an unknown name.
    """
    from e4profile.subjects.subject import names_code

    if inputs is not None and len(inputs) and not any(map(names_code, names)):
        raise SettingError("inputs are for user-defined models: package.module:build or file.py:build")
    settings = settings or {}
    if (arguments or settings) and not names:
        raise SettingError(f"{described({**settings, **arguments})}: arguments belong to a network: name it")
    return resolve_together(list(names or all_cards()), settings, inputs, arguments)


def check_subject(subject: Subject) -> CheckResult:
    """Check a network: every layer that has a closed form, that no operator is unknown, and every published cell.

    A network in which no layer has a closed form fails, unless a published cell is compared: nothing was proven.
    ``coverage`` and ``notes`` say how much of it has one. What is not installed is not checked.

    Raises:
        Whatever ``measure`` raises.
    """
    from e4profile.questions.count.rows import summed_notes
    from e4profile.witnesses.counts.measure import measure

    try:
        measured = measure(subject, ("closed-form", "dispatch"))
    except NotInstalled as missing:
        return CheckResult(subject.name, None, None, 0, 0, (), NOT_INSTALLED, (str(missing),), installed=False)
    cells, differing = _published_cells(subject)
    ran, coverage = measured.dispatch, measured.coverage
    problems, notes = [*map(str, measured.differences), *ran.unknown_operators], list(measured.notes)
    unproven = None
    if measured.sizes == "none":
        unproven = f"no layer has a closed form, so nothing is proven: {measured.failures['closed-form']}"
        notes = []
    elif not coverage.percent:
        unproven = "no layer that runs MACs has a closed form, so none of them is proven"
    if unproven is not None:
        # published cells are held against what runs, which is a proof of another kind
        (notes if cells else problems).append(unproven)
    if measured.sizes == "recorded":
        notes.insert(0, f"layers with a closed form run {coverage.macs:,} of {coverage.of_macs:,} MACs")
    covered = str(coverage)
    if ran.summed_products:
        uncharged = f"{sum(ran.summed_products.values()):,} MACs of summed products"
        covered = f"all but {uncharged}" if coverage.whole else f"{covered}, without {uncharged}"
        covered += ", which are not charged"
        notes += summed_notes(measured)
    return CheckResult(
        subject.name,
        ran.params,
        ran.macs,
        len(measured.closed.layers),
        cells,
        tuple(f"{subject.name}: {text}" for text in (*problems, *differing)),
        covered,
        (*(f"{subject.name}: {text}" for text in notes), *subject.notes),
    )


def _published_cells(subject: Subject) -> tuple[int, list[str]]:
    """How many published cells were compared, and those whose verdict is another than the recorded one.

    None in another execution than the network's own, which is the published one.
    """
    if subject.execution is not None:
        return 0, []
    from e4profile.questions.published.rows import build_row

    judged = [(row, one) for row in subject.published for one in build_row(subject, row) if one.judged]
    return len(judged), [
        f"table {row.table}, row {row.row!r}, {one.cell.quantity}: published {one.cell.value}, "
        f"built {one.built}: {one.verdict}, but the card records {one.cell.verdict}"
        for row, one in judged
        if not one.as_recorded
    ]


def random_cards(count: int, seed: int) -> Iterator[Card]:
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
        yield Card(label, label, network, shape, arguments)


def run_checks(
    names: Sequence[str] = (),
    random_settings: int = 0,
    seed: int = 0,
    inputs: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    execution: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[CheckResult]:
    """Check the named networks (every card without names), then random settings.

    Of several, one that cannot run is a problem of its own, and the others are checked.

    Args:
        names: cards' names or files, ``package.module:build``, ``path/to/file.py:build``.
        random_settings: how many.
        seed: of the random settings.
        inputs: of those that are code (see ``e4profile.subjects.inputs.parse_inputs``).
        arguments: of their builders.
        execution: of group convolutions: bank, irreps or auto; as the networks say when None.
        settings: arguments of all of them.

    Raises:
        SettingError: for a negative number of random settings, or an execution where nothing has one.
        UnknownNameError: for an unknown name.
        Whatever ``check_subject`` raises of a single network.
    """
    from e4profile.subjects.subject import of_card

    not_negative(random=random_settings)
    selected = executed(select(names, inputs, arguments or {}, settings), execution)
    for found in selected:
        try:
            yield check_subject(found)
        except E4ProfileError as error:
            if len(selected) == 1 or found.costed_whole:
                raise
            problem = f"{found.name}: {CANNOT_RUN}: {error}"
            yield CheckResult(found.name, None, None, 0, 0, (problem,), CANNOT_RUN, installed=False)
    for card in random_cards(random_settings, seed):
        found = of_card(card)
        yield check_subject(found if execution is None else found.executed(execution))
