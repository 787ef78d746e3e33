"""What a command works on: a card, a card file, or a model of one's own in a package or a file."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.networks.cards import Card, find_card
from e4profile.subjects.inputs import Example, InputSpec, as_example, example_from_specs, parse_input, with_batch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.subjects.batches import BatchedInputs
    from e4profile.subjects.guest import Guest
    from e4profile.witnesses.counts.measure import Measurement
    from e4profile.witnesses.equivariance.witness import EquivarianceReport


@dataclass(frozen=True)
class Target:
    """A model that can be built and called.

    Attributes:
        name: as given on the command line.
        label: for people.
        arguments: of the builder.
        card: the card, or None for a model of one's own.
        specs: the inputs, from ``--input``; empty for a card with its own input size.
        inputs: the inputs themselves, in place of specifications (see ``e4profile.subjects.inputs.as_example``).
        batch_size: images per call.
    """

    name: str
    label: str
    arguments: Mapping[str, Any]
    card: Card | None = None
    specs: tuple[InputSpec, ...] = ()
    batch_size: int = 1
    inputs: Any = field(default=None, repr=False, compare=False)
    _source: tuple[Any, Guest] | None = field(default=None, repr=False, compare=False)

    def build(self, device: str = "cpu", seed: int = 0) -> nn.Module:
        """The model in evaluation mode; a builder of one's own runs once, on the CPU, and its result is kept.

        Raises:
            SettingError: for arguments that the builder refuses, or a network that is not set up.
            UserCodeError: when a builder of one's own raises, or its network's ``eval``, or it cannot be copied to
                the device; ``details`` holds its traceback.
        """
        if self.card is not None:
            return self.card.build(device, seed)
        from e4profile.subjects.guest import STOPPED, UserCodeError, first_line

        model = self._own
        try:
            with self.running():
                # what it returns is no matter: a network's own eval() may return nothing
                model.eval()
        except STOPPED:
            raise
        except BaseException as error:
            raise UserCodeError(f"{self.name} has no evaluation mode: {first_line(error)}", error) from error
        if device == "cpu":
            return model
        try:
            with self.running():
                return copy.deepcopy(model).to(device)
        except STOPPED:
            raise
        except BaseException as error:
            raise UserCodeError(f"{self.name} cannot be copied to {device}: {first_line(error)}", error) from error

    @cached_property
    def _own(self) -> nn.Module:
        from e4profile.subjects.user_code import build_model

        builder, guest = self._loaded
        return build_model(self.name, builder, self.arguments, guest)

    @property
    def builder(self) -> Any:
        """What builds a model of one's own: an ``nn.Module``, its class, or a callable.

        Raises:
            SettingError: for a card, whose topology is no code of one's own.
        """
        return self._loaded[0]

    @property
    def _loaded(self) -> tuple[Any, Guest]:
        if self._source is None:
            raise SettingError(f"{self.name} is a card: it runs no code of one's own")
        return self._source

    def example(self, device: str = "cpu", dtype: torch.dtype | None = None) -> Example:
        """The inputs of one call, positional and keyword, the same ones every time.

        Args:
            device: where the tensors are.
            dtype: of floating tensors; the model's own when None.
        """
        import torch

        if dtype is None and self.card is None:
            with self.running():
                parameters = (one for one in self._own.parameters() if one.is_floating_point())
                dtype = next((one.dtype for one in parameters), None)
        dtype = dtype or torch.float32
        if self.specs:
            made = example_from_specs(self.specs, dtype)
        else:
            made = as_example(self._card_shape() if self.inputs is None else self.inputs, dtype)
        return made if device == "cpu" else made.map(lambda tensor: tensor.to(device))

    def _card_shape(self) -> tuple[int, ...]:
        if self.card is None:
            raise SettingError(f"{self.name} has no input size")
        return self.card.input_shape(self.batch_size)

    @property
    def title(self) -> str:
        """For people; a card's does not name the batch."""
        return self.label if self.card is None else self.card.title

    @property
    def input(self) -> tuple[int, ...] | None:
        """The shape of one image, for a closed form; None for a model of another input than one positional tensor."""
        if self.card is not None:
            return self.card.input
        if self.specs:
            (only, *more) = self.specs
            return only.shape[1:] if only.shape and not (only.name or more) else None
        example = self.example()
        shape = example.single_shape if example.positional else None
        return shape[1:] if shape else None

    @property
    def batched(self) -> BatchedInputs:
        """The inputs of one call, which can be made for any batch, dtype and device."""
        from e4profile.subjects.batches import BatchedInputs

        if self.card is not None:
            return self.card.batched
        return BatchedInputs(self.specs) if self.specs else BatchedInputs(given=self.example())

    @property
    def own_batch(self) -> int | None:
        """The batch where none is asked for; None for inputs whose leading sizes are no batch."""
        return self.batch_size if self.card is not None else self.batched.batch_size

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the model's code: what it sets in the process holds inside, and is given back."""
        if self._source is None:
            yield
        else:
            with self._source[1].running():
                yield

    @property
    def notes(self) -> list[str]:
        """What the model's code changed in the process and what was given back, a sentence each."""
        return [] if self._source is None else self._source[1].notes

    def measure(self, counters: Sequence[str]) -> Measurement:
        """Count the model (see ``measure`` and ``measure_module``).

        Raises:
            UserCodeError: when the model's forward raises, naming the module in which it happened.
            SettingError: when a card's network refuses its arguments or its input.
        """
        from e4profile.witnesses.counts.measure import measure, measure_module

        if self.card is not None:
            return measure(self.card, counters, self.batch_size)
        model, example = self.build(), self.example()
        with self.guarded():
            return measure_module(model, example, counters)

    def witness(self, **options: Any) -> EquivarianceReport:
        """Measure the model's equivariance (see ``witness_equivariance.witness`` for the options).

        Raises:
            UserCodeError: when the model's forward raises, naming the module in which it happened.
            SettingError: for options that cannot be.
        """
        from e4profile.witnesses.equivariance.witness import witness

        model, example = self.build(), self.example()
        with self.guarded():
            return witness(model, example, **options)

    @contextmanager
    def guarded(self, batch_size: int | None = None) -> Iterator[None]:
        """Run the model's code as in ``running``, and say in which of its modules an error happened.

        Args:
            batch_size: of the call, for the words of an error; as the inputs say when None.

        Raises:
            UserCodeError: for what the model raises.
            SettingError: for what a card's network raises.
            E4ProfileError: as it is, where the model was not running.
        """
        from e4profile.subjects.guest import STOPPED, failing_module, run_error
        from e4profile.subjects.input_hints import input_hint

        try:
            with self.running():
                yield
        except STOPPED:
            raise
        except BaseException as error:
            # a witness may wrap what the model raised
            own = error if error.__cause__ is None else error.__cause__
            # an error of ours about the settings, not of a layer about its input
            with self.running():
                model = self._own if self.card is None else self.build()
                if isinstance(error, E4ProfileError) and failing_module(model, own.__traceback__) is None:
                    raise
                failed = run_error(self.name, model, self._called_with(batch_size), own)
                failed.args = (f"{failed}{input_hint(model, self.specs, own)}",)
            if self.card is not None:
                # our layers' lines help nobody who gave a card another input
                raise SettingError(str(failed)) from own
            raise failed from own

    def _called_with(self, batch_size: int | None) -> str:
        import torch

        return str(self.example() if batch_size is None else self.batched.at(batch_size, torch.float32, "meta"))


Subject: TypeAlias = Card | Target
"""What most commands need: ``name``, ``title``, ``arguments``, ``batched`` and ``build(device)``."""


def full_name(subject: Subject) -> str:
    """The name with the arguments that were given for it, which sets two networks of one builder apart.

    ``e4net width=2`` for a card whose width is overridden, ``net.py:build depth=3`` for a model of one's own.
    """
    card = subject if isinstance(subject, Card) else subject.card
    given = dict(subject.arguments)
    if card is not None:
        given = {key: value for key, value in given.items() if key in card.overridden}
    return " ".join([subject.name, *(f"{key}={value}" for key, value in given.items())])


@contextmanager
def guarded(subject: Subject, batch_size: int | None = None) -> Iterator[None]:
    """``Target.guarded`` for a model of one's own, nothing for a card."""
    if isinstance(subject, Card) or subject.card is not None:
        yield
    else:
        with subject.guarded(batch_size):
            yield


def is_own(name: str) -> bool:
    """Whether a name is that of a model of one's own, ``package.module:build`` or ``path/file.py:build``."""
    return ":" in name or name.endswith(".py")


def resolve(
    name: str,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    *,
    batch_size: int | None = None,
    example: Any = None,
) -> Target:
    """Find what a name stands for. A file or a package of one's own is imported, which runs it.

    Args:
        name: a card's name, a card file (``.toml``), ``package.module:build`` or ``path/to/file.py:build``, where
            build is an ``nn.Module``, its class, or a callable that returns one.
        inputs: ``1x3x32x32``, ``image=1x3x32x32``, ``mask=1x1x32x32:bool``, ``steps:=4`` (see ``parse_input``);
            for a card, one shape that replaces its own.
        arguments: of the builder, or overrides of the card's.
        batch_size: the batch, in place of the inputs' own.
        example: shapes, tensors or a dict of them, in place of ``inputs`` (see ``subjects.inputs.as_example``); only
            for a model of one's own.

    Raises:
        UnknownNameError: for a name that nothing answers to, with the nearest names.
        SettingError: for inputs that are missing or cannot be read.
        UserCodeError: for a module that does not import.
        CardError: for a card file that cannot be used.
    """
    specs = [parse_input(text) for text in inputs]
    if batch_size is not None:
        specs = with_batch(specs, batch_size)
    if not is_own(name):
        if example is not None:
            raise SettingError(f"{name} is a card: it has its own input size")
        return _card_target(name, specs, arguments or {}, batch_size)
    if name.endswith(".py"):
        raise SettingError(f"{name!r} must name a builder behind a colon, for example {_suggestion(name)}")
    if not specs and example is None:
        raise SettingError(f"{name} needs its inputs: give --input with the batch, for example --input 1x3x32x32")
    from e4profile.subjects.guest import Guest
    from e4profile.subjects.user_code import load

    guest = Guest(name)
    source = (load(name, guest), guest)
    words = ", ".join(f"{key}={value!r}" for key, value in (arguments or {}).items())
    label = f"{name}{f'({words})' if words else ''} on {' '.join(map(str, specs)) or 'the given inputs'}"
    batch = next((spec.shape[0] for spec in specs if spec.shape), 1)
    return Target(name, label, dict(arguments or {}), None, tuple(specs), batch, example, source)


def _card_target(name: str, specs: Sequence[InputSpec], arguments: Mapping[str, Any], batch_size: int | None) -> Target:
    from dataclasses import replace

    try:
        card = find_card(name).with_arguments(arguments)
    except UnknownNameError as error:
        if Path(name).exists() or "." in name:
            text = f"{name!r} is no card; a model of your own is package.module:build or path/file.py:build"
            raise SettingError(text) from error
        raise
    batch = batch_size or 1
    if specs:
        if len(specs) > 1 or specs[0].name or len(specs[0].shape or ()) != 4:
            given = " ".join(map(str, specs))
            raise SettingError(f"{name} takes one input of batch x channels x height x width, not ({given})")
        if specs[0].dtype not in (None, "float32"):
            raise SettingError(f"{name} takes images of float32, not ({specs[0]}): leave out :{specs[0].dtype}")
        batch, *image = specs[0].shape or ()
        card = replace(card, input=tuple(image))
    where = f", on {'x'.join(map(str, card.input))}" if specs else ""
    return Target(name, f"{card.title}{where}, batch of {batch}", card.arguments, card, tuple(specs), batch)


def _suggestion(file: str) -> str:
    """A file with the name of something in it that may build a model."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    names = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", text, re.MULTILINE)
    near = difflib.get_close_matches("build", names, n=1, cutoff=0.3) or names[-1:]
    return f"{file}:{near[0] if near else 'build'}"
