"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from e4profile.errors import E4ProfileError, SettingError, one_of, positive, short_numbers
from e4profile.show.tables import FORMATS, UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from e4profile.subjects.losses import Loss as AnyLoss
    from e4profile.subjects.subject import Subject


# what these return is the value itself, refused before any work is done when it cannot be


def _known_format(output_format: str) -> str:
    return one_of("format", output_format, FORMATS)


def _known_units(units: str) -> str:
    return one_of("units", units, UNITS)


def _known_execution(execution: str | None) -> str | None:
    if execution is None:
        return None
    from e4profile.layers.execution import EXECUTIONS

    return one_of("execution", execution, EXECUTIONS)


def positive_whole(option: typer.CallbackParam, value: int | None) -> int | None:
    """The value itself.

    Raises:
        SettingError: for one that is not positive.
    """
    if value is not None:
        positive(**{option.opts[0]: value})
    return value


def known_device(device: str | None) -> str | None:
    """The name itself, also where nothing runs on the device; whether it is here is asked when something does.

    Raises:
        SettingError: for what is neither a CPU nor a GPU of CUDA.
    """
    if device is not None and re.fullmatch(r"(cpu|cuda)(:\d+)?", str(device)) is None:
        raise SettingError(f"--device (={str(device)!r}) must be 'cpu' or 'cuda'")
    return device


def duration(flag: str, help: str, unit: str = "s", *, hidden: bool = False) -> Any:
    """An option that takes a time: ``2s``, ``500ms``, or a number in the unit that its name says."""

    def read(value: str | float | None) -> float | None:
        from e4profile.subjects.written import parse_duration_in

        found = None if value is None else parse_duration_in(unit, value, flag)
        if found is not None and found < 0:
            raise SettingError(f"{flag} (={value}) must not be negative")
        return found

    return typer.Option(flag, help=help, metavar="TIME", parser=str, callback=read, hidden=hidden)


Format = Annotated[
    str,
    typer.Option(
        "--format", "-f", help="json, csv, markdown, latex or latex-all", metavar="FORMAT", callback=_known_format
    ),
]
Units = Annotated[
    str, typer.Option("--units", help="exact (every digit) or si (4 digits)", metavar="UNITS", callback=_known_units)
]
Html = Annotated[Path | None, typer.Option("--html", help="Write tables and figures as one page.", metavar="FILE")]
Convention = Annotated[
    str,
    typer.Option(
        "--convention",
        help="What counts as what: macs, flops, printed, fvcore, ... or a file of weights.",
        metavar="RULE",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Arguments: width=24,act=gelu,blocks=1,1,1.", metavar="KEY=VALUE")
]
Execution = Annotated[
    str | None,
    typer.Option(
        "--execution", help="Group convolutions: bank, irreps or auto.", metavar="NAME", callback=_known_execution
    ),
]

Cards = Annotated[
    list[Path] | None, typer.Option("--cards", help="Find cards in these folders or card files too.", metavar="DIR,...")
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="A user-defined model's input: 1x3x32x32.", metavar="SHAPE")
]
Arguments = Annotated[
    list[str] | None, typer.Option("--arg", help="The same as --set.", metavar="KEY=VALUE", hidden=True)
]
BatchSizes = Annotated[
    str | None, typer.Option("--batch-size", help="Images, e.g. 1,32; else 1, or what --input says.", metavar="N,...")
]
Loss = Annotated[str, typer.Option("--loss", help="cross_entropy, mean, sum or a function", metavar="NAME")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", help="Images per pass; else 1, or what --input says.", metavar="N", callback=positive_whole
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda", metavar="DEVICE", callback=known_device)]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, ...", metavar="DTYPE")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="In an operator; else as PyTorch has them.", metavar="N", callback=positive_whole),
]
MaxRunTime = Annotated[float, duration("--max-run-time-s", "Sample at most this long.")]
Mixed = Annotated[
    bool, typer.Option("--mixed", "--allow-mixed", help="Allow times of different environments, labelled.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it into a folder too (SVG, PNG, CSV).", metavar="DIR")]
Records = Annotated[
    Path | None, typer.Option("--out", help="Append records with all raw samples to a file.", metavar="FILE")
]
MODEL = "NETWORK"
MODEL_HELP = "A card, or code to run (e4profile help networks)."
"""What a command that takes models says about its argument."""


def threads_used(threads: int | None = None) -> int:
    """The intra-operator threads that were asked for, else those that this PyTorch uses."""
    import torch

    return torch.get_num_threads() if threads is None else threads


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """``1,2,4`` as numbers; None stays None.

    Raises:
        SettingError: naming option and value.
    """
    if text is None:
        return None
    try:
        return cast("list[int]", short_numbers([int(part) for part in text.split(",")]))
    except ValueError:
        raise SettingError(f"{option}: {text!r} is not a list of whole numbers such as 1,2,4") from None


def names(values: list[str] | None) -> list[str]:
    """Repeated or comma-separated names, in order.

    Raises:
        SettingError: for values that hold no name.
    """
    found = [name for value in values or [] for name in value.split(",") if name]
    if values and not found:
        raise SettingError(f"{','.join(values)!r} names nothing: give at least one name")
    return found


def networks(values: list[str] | None) -> list[str]:
    """Repeated or comma-separated networks, in order; commas between a network's arguments divide nothing.

    A module in hand, which Python may give in place of a name, is itself.

    Raises:
        SettingError: for values that hold no name.
    """
    from e4profile.subjects.named import split_named

    found = [name for value in values or [] for name in (split_named(value) if isinstance(value, str) else [value])]
    if values and not found:
        raise SettingError(f"{','.join(values)!r} names nothing: give at least one name")
    return found


Networks = Annotated[list[str], typer.Argument(help=MODEL_HELP, metavar=MODEL, callback=networks)]


def overrides(pairs: Sequence[str] | Mapping[str, Any] | None, option: str = "--set") -> dict[str, Any]:
    """``key=value`` pairs, one or several in a text; for the values see ``plain_value``. The last of one key holds.

    The values that Python gives by name are as they are.

    Raises:
        SettingError: for a pair without ``=``.
    """
    from e4profile.subjects.named import split_pairs
    from e4profile.subjects.written import plain_value

    if isinstance(pairs, Mapping):
        return dict(pairs)
    found: dict[str, Any] = {}
    for pair in (part for given in pairs or [] for part in split_pairs(given)):
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise SettingError(f"{option}: {pair!r} must be KEY=VALUE, for example width=24")
        try:
            value = plain_value(text)
            listed = plain_value(f"[{text}]") if isinstance(value, str) and "," in text else text
            # 1,1,1 is a list; a text that holds a comma is a text
            found[key] = listed if isinstance(listed, list) and len(listed) > 1 else value
        except RecursionError:
            raise SettingError(f"{option}: the value of {key} is nested too deeply") from None
    return found


def one_subject(
    name: str,
    settings: list[str] | None = None,
    inputs: list[str] | None = None,
    arguments: list[str] | None = None,
    batch_size: int | None = None,
    option: str = "--arg",
    execution: str | None = None,
) -> Subject:
    """The network that a command was given, with ``--set``, ``--input``, ``--arg`` and ``--execution``.

    Raises:
        Whatever ``executed`` raises.
        Whatever ``e4profile.subjects.subject.resolve`` raises.
    """
    given = {**overrides(settings), **overrides(arguments, option)}
    (found,) = executed([_resolved(name, inputs, given, batch_size)], execution)
    return found


def _resolved(name: str | nn.Module, inputs: Any, arguments: Mapping[str, Any], batch_size: int | None) -> Subject:
    """The network; its inputs are texts, or from Python shapes, tensors, a dict or a sequence of them."""
    from e4profile.subjects.subject import names_code, resolve

    if inputs is None or (isinstance(inputs, (list, tuple)) and all(isinstance(one, str) for one in inputs)):
        return resolve(name, inputs or (), arguments, batch_size=batch_size)
    if not names_code(name) and isinstance(inputs, (list, tuple)) and all(type(one) is int for one in inputs):
        return resolve(name, ["x".join(map(str, inputs))], arguments, batch_size=batch_size)
    found = resolve(name, arguments=arguments, example=inputs)
    return found if batch_size is None else replace(found, inputs=found.batched.given_at(batch_size))


def several_subjects(
    given: list[str],
    settings: list[str] | None = None,
    inputs: list[str] | None = None,
    arguments: list[str] | None = None,
    batch_size: int | None = None,
    execution: str | None = None,
) -> list[Subject]:
    """Networks side by side: where some are code, ``--input`` is theirs; ``--set`` is for all of them.

    ``--arg`` is the same, but for one thing: beside cards it is for the code alone, and ``--set`` then for the cards.

    Raises:
        Whatever ``e4profile.subjects.subject.resolve`` or ``executed`` raises.
    """
    found = resolve_together(given, overrides(settings), inputs, overrides(arguments, "--arg"), batch_size)
    return executed(found, execution)


def executed(subjects: Sequence[Subject], execution: str | None) -> list[Subject]:
    """The networks, whose group convolutions run that way; as they are for None.

    A network without group convolutions stays as it is, and a note says so where others have them.

    Raises:
        SettingError: where no network has any, or ``--set`` says another execution.
        Whatever building the networks raises.
    """
    from e4profile.questions.output import note

    if execution is None:
        return list(subjects)
    for one in subjects:
        if one.execution not in (None, execution):
            raise SettingError(f"--execution {execution}, and --set execution={one.execution}: give one of them")
    found = [_switched(one, execution) for one in subjects]
    plain = ", ".join(dict.fromkeys(one.name for one, other in zip(subjects, found, strict=True) if other is None))
    text = f"--execution {execution}: no group convolution over C_n or D_n in {plain}"
    if not any(found):
        raise SettingError(text)
    if plain:
        note(f"{text}: nothing to switch there")
    return [other or one for one, other in zip(subjects, found, strict=True)]


def _switched(subject: Subject, execution: str) -> Subject | None:
    """The network in another execution; None where it has none. What cannot be built says so when it is asked for."""
    other = subject.executed(execution)
    try:
        return other if other.has_executions else None
    except E4ProfileError:
        return other


def inputs_of(name: str, named: list[str], inputs: list[str] | None) -> list[str] | None:
    """The inputs of one of several networks: where some are code, cards keep their own."""
    from e4profile.subjects.subject import names_code

    return inputs if names_code(name) or not any(map(names_code, named)) else None


def resolve_together(
    given: list[str],
    settings: Mapping[str, Any],
    inputs: Sequence[str] | None,
    arguments: Mapping[str, Any],
    batch_size: int | None = None,
) -> list[Subject]:
    """The same with values that are read already."""
    from e4profile.subjects.named import distinct
    from e4profile.subjects.subject import names_code

    code = [name for name in given if names_code(name)]
    apart = 0 < len(code) < len(given)
    of_code = {**({} if apart and arguments else settings), **arguments}
    of_cards = {**settings, **({} if apart else arguments)}
    found = [
        _resolved(name, inputs, of_code, batch_size)
        if names_code(name)
        else _resolved(name, None if code else inputs, of_cards, batch_size)
        for name in given
    ]
    distinct(found)
    return found


def given_batch(subjects: Iterable[Subject]) -> int | None:
    """The batch of the first inputs that were given; None where all networks are on their own."""
    return next((subject.batch_size for subject in subjects if subject.input_given), None)


def loss_named(text: str | Callable[[Any], Any]) -> AnyLoss:
    """A loss by name, or a user-defined function, whose file is imported; one in hand is itself.

    Raises:
        UnknownNameError: for a name that is neither, with the nearest names.
        Whatever ``e4profile.subjects.user_code.OwnLoss`` raises.
    """
    from e4profile.subjects.losses import LOSSES
    from e4profile.subjects.subject import names_code

    if not isinstance(text, str):
        return text
    if names_code(text):
        from e4profile.subjects.user_code import OwnLoss

        return OwnLoss(text)
    one_of("loss", text, (*LOSSES, "path/to/file.py:function"))
    return cast("AnyLoss", text)


def batch_sizes(text: str | None) -> list[int] | list[None]:
    """The batches that ``--batch-size`` asks for; a single None where it is not given.

    Raises:
        SettingError: for anything but positive whole numbers.
    """
    found = whole_numbers("--batch-size", text)
    for batch in found or []:
        positive(**{"--batch-size": batch})
    return [None] if found is None else found


@contextmanager
def own_loss_running(loss: AnyLoss) -> Iterator[None]:
    """Run a user-defined loss as a guest: what it prints goes to stderr; nothing for any other loss."""
    guest = getattr(loss, "guest", None)
    if guest is None:
        yield
    else:
        with guest.running():
            yield
