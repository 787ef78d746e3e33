"""The networks of a command that sets cards and models of one's own side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from e4profile.errors import SettingError
from e4profile.questions.options import overrides

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject


def one_subject(
    name: str,
    settings: list[str] | None = None,
    inputs: list[str] | None = None,
    arguments: list[str] | None = None,
    batch_size: int | None = None,
    *,
    inputs_of_own: bool = False,
    option: str = "--arg",
) -> tuple[int | None, Subject]:
    """A card as itself, or a model of one's own with its inputs.

    Args:
        name: as on the command line.
        settings: of ``--set``.
        inputs: of ``--input``.
        arguments: of ``--arg``.
        batch_size: in place of the inputs' own.
        inputs_of_own: whether ``inputs`` are those of models of one's own alone, so that cards keep their sizes.
        option: how ``arguments`` were given.

    Returns:
        The batch that the inputs name, None for a card with its own input size; and the network.

    Raises:
        Whatever ``e4profile.subjects.subject.resolve`` raises.
    """
    from e4profile.subjects.subject import is_own, resolve

    given = {**overrides(settings), **overrides(arguments, option)}
    keeps = inputs_of_own and not is_own(name)
    found = resolve(name, () if keeps else inputs or (), given, batch_size=batch_size)
    if found.card is not None:
        return found.batch_size if found.specs else None, found.card
    return found.batch_size, found


def several_subjects(
    names: list[str],
    settings: list[str] | None = None,
    inputs: list[str] | None = None,
    arguments: list[str] | None = None,
    batch_size: int | None = None,
) -> tuple[int | None, list[Subject]]:
    """As ``one_subject`` for several; ``--arg`` and ``--input`` are those of the models of one's own among them.

    Returns:
        The batch that the inputs name; None where all networks are cards with their own input size.

    Raises:
        SettingError: for ``--arg`` with cards alone.
        Whatever ``e4profile.subjects.subject.resolve`` raises.
    """
    from e4profile.subjects.subject import is_own

    own = any(map(is_own, names))
    if arguments and not own:
        raise SettingError(f"--arg ({', '.join(arguments)}) is for a model of your own; a card takes --set")
    found = []
    for name in names:
        mine = is_own(name)
        found.append(
            one_subject(
                name, None if mine else settings, inputs, arguments if mine else None, batch_size, inputs_of_own=own
            )
        )
    batch = next((size for size, _ in found if size is not None), None)
    return batch, [subject for _, subject in found]


def named(subject: Subject, given: dict[str, object]) -> Subject:
    """The same card under a name that says what was changed; a model of one's own keeps its name."""
    from e4profile.networks.cards import Card

    if not given or not isinstance(subject, Card):
        return subject
    said = " ".join(f"{key}={value}" for key, value in given.items())
    return replace(subject, name=f"{subject.name} {said}")
