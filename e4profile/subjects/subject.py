"""What is profiled: one network with its arguments and its inputs, wherever it came from.

A subject comes from a card's name, a card file, ``package.module:build``, ``path/to/file.py:build``, or an
``nn.Module`` in hand. What is asked of it is the same for all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from e4profile.errors import SettingError, UnknownNameError, one_of
from e4profile.networks.cards import Card, find_card
from e4profile.subjects.card_code import CardCode, FromBuilder
from e4profile.subjects.inputs import Example, InputSpec, as_example, example_from_specs, parse_inputs, with_batch
from e4profile.subjects.named import Named, parse_named
from e4profile.subjects.sources import FromCard, FromCode, parameters_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.networks.cards import PublishedRow
    from e4profile.subjects.batches import BatchedInputs


Source: TypeAlias = FromCard | FromBuilder | FromCode


class InputsMissing(SettingError):
    """A network that needs its inputs, and was given none."""


@dataclass(frozen=True)
class Subject:
    """A network that can be built, called and varied.

    Attributes:
        name: the card's, the reference of a builder, or the class of a module in hand.
        specs: its inputs with their batch; empty where the inputs themselves were given.
        inputs: the inputs themselves, in place of ``specs`` (see ``e4profile.subjects.inputs.as_example``).
        input_given: whether the inputs were asked for, rather than known of the network.
        row: the name that it was given for its row, in place of its own; empty where none was.
    """

    name: str
    specs: tuple[InputSpec, ...]
    _source: Source = field(repr=False)
    inputs: Any = field(default=None, repr=False, compare=False)
    input_given: bool = True
    row: str = ""

    # what it is called

    @property
    def full_name(self) -> str:
        """The name with the arguments that were given, which sets two networks of one builder apart.

        ``e4net width=2`` for a card whose width is overridden, ``net.py:build depth=3`` for a user-defined model; the
        name of its row where it was given one.
        """
        return self.row or " ".join([self.name, *(f"{key}={value}" for key, value in self._source.overrides.items())])

    @property
    def short_name(self) -> str:
        """The same for a figure: of a path only the end, which says most."""
        return self.row or self.full_name[self.name.rfind("/") + 1 :]

    @property
    def label(self) -> str:
        """For people, with the inputs."""
        return self._with_row(self._label)

    def _with_row(self, title: str) -> str:
        return f"{self.row}: {title}" if self.row else title

    @property
    def _label(self) -> str:
        if self._source.title is not None:
            where = f", on {'x'.join(map(str, self.input or ()))}" if self.input_given else ""
            return f"{self._source.title}{where}, batch of {self.batch_size}"
        words = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.name}{f'({words})' if words else ''} on {self.given or self.example()}"

    @property
    def title(self) -> str:
        """For people; a published network's does not name the inputs."""
        return self._with_row(self._source.title) if self._source.title else self.label

    @property
    def published(self) -> tuple[PublishedRow, ...]:
        """The rows of publications about it; empty where there is none."""
        return self._source.published

    @property
    def training(self) -> Mapping[str, Any]:
        """The published training recipe; empty where there is none."""
        return self._source.training

    @property
    def notes(self) -> list[str]:
        """What the model's code changed in the process and what was given back, and what is to be known of the code."""
        return [*([] if self._source.guest is None else self._source.guest.notes), *self._source.notes]

    @property
    def reference(self) -> str:
        """What finds it again from the same folder: a card's name or file, or the reference of a builder."""
        return self._source.reference or self.name

    @property
    def code_digest(self) -> str:
        """A digest of the user's code that builds it, which is imported for it; empty for a topology of the package."""
        return self._source.code_digest

    # what is known of it

    @property
    def costed_whole(self) -> bool:
        """Whether the whole network is promised to have a closed form, and every operator of it to be known.

        What breaks the promise is a defect. A variant is counted by its closed form, which needs no run.
        """
        return self._source.costed_whole

    @property
    def arguments_as_in_layers(self) -> bool:
        """Whether ``width``, ``kernel``, ``reduction`` and ``slices`` mean what they do in ``e4profile.layers``.

        A kernel is odd then, and reduction and slices divide the width.
        """
        return self._source.arguments_as_in_layers

    @property
    def meta_is_enough(self) -> bool:
        """Whether what it runs is sure not to depend on its values, so that counting needs none."""
        return self._source.meta_is_enough

    # its arguments

    @property
    def topology(self) -> str:
        """What the arguments are of: a topology's name, or the reference of a builder."""
        return self._source.topology

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments it is built with, as far as they are known; an execution that was asked for is among them."""
        return {**self._source.arguments, **self._source.overrides}

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The named arguments of its builder; none for a finished module or a builtin."""
        return parameters_of(self._source.builder)[0]

    def accepts(self, argument: str) -> bool:
        """Whether its builder takes an argument of this name."""
        named, takes_any = parameters_of(self._source.builder)
        return argument in named or (takes_any and argument.isidentifier())

    def argument(self, name: str) -> Any:
        """The value of an argument: the known one, else the builder's default; None where neither has one."""
        if name in self.arguments:
            return self.arguments[name]
        known = self.parameters
        default = known[name].default if name in known else None
        return None if default is Parameter.empty else default

    def check_accepts(self, name: str) -> None:
        """Refuse an argument that it does not take.

        Raises:
            SettingError: for a finished module, which takes none.
            UnknownNameError: with the nearest names.
        """
        if not self.accepts(name):
            self._source.refuse(name)

    def with_arguments(self, arguments: Mapping[str, Any]) -> Subject:
        """The same network with some arguments replaced; its file is not imported again.

        Raises:
            UnknownNameError: for an argument that it does not take.
            SettingError: for a finished module, which takes none.
        """
        for name in arguments:
            self.check_accepts(name)
        row = " ".join([self.row, *(f"{key}={value}" for key, value in arguments.items())]) if self.row else ""
        return replace(self, _source=self._source.with_arguments(arguments), row=row)

    @property
    def execution(self) -> str | None:
        """How group convolutions run, where another way than the network's own was asked for."""
        return self._source.execution

    def executed(self, execution: str) -> Subject:
        """The same network, whose group convolutions run that way: of a card an argument, of code a copy that is set.

        Raises:
            UnknownNameError: for an execution that does not exist.
            SettingError: for a card whose own layers' execution was set.
        """
        from e4profile.layers.execution import EXECUTIONS

        return replace(self, _source=self._source.executed(one_of("execution", execution, EXECUTIONS)))

    @property
    def has_executions(self) -> bool:
        """Whether it has layers that ``executed`` switches; asking builds it."""
        from e4profile.layers.execution import SwitchedLayer

        model = self.build_to_count()
        with self.guarded():
            return any(isinstance(part, SwitchedLayer) and part.switches for part in model.modules())

    def without_arguments(self, names: Collection[str]) -> Subject:
        """The same network with its builder's defaults for some arguments."""
        return replace(self, _source=self._source.without_arguments(names))

    def fresh(self) -> Subject:
        """The same network, not built yet."""
        return replace(self, _source=self._source.with_arguments({}))

    # the model

    @property
    def is_rebuilt(self) -> bool:
        """Whether ``fresh`` is another network; a finished module is the same."""
        from torch import nn

        return not isinstance(self._source.builder, nn.Module)

    def build(self, device: str | None = None, seed: int = 0) -> nn.Module:
        """The model in evaluation mode; somebody's builder runs once and its result is kept.

        Args:
            device: where the model is; where its builder puts it when None.
            seed: of a card's weights.

        Raises:
            SettingError: for arguments that the builder refuses, or a network that is not set up.
            UserCodeError: when a user-defined builder raises, or its network's ``eval``, or it cannot be copied to
                the device; ``details`` holds its traceback.
        """
        return self._source.build(device, seed)

    def build_whole(self) -> nn.Module:
        """The same for its shapes: without values where that is enough, else after a first call for lazy layers.

        Raises:
            UserCodeError: for what building it or calling it raises.
        """
        from e4profile.subjects.copies import materialised

        if self.meta_is_enough:
            return self.build("meta")
        model = self.build()
        with self.guarded():
            return materialised(model, self.example())

    def build_to_count(self, *, run: bool = False) -> nn.Module:
        """The model for its shapes alone, without values where that is enough.

        Args:
            run: whether ``runnable`` will be asked for: the network is built for both then, its weights not filled.
        """
        return self._source.build_unfilled() if run or not self.meta_is_enough else self.build("meta")

    def runnable(self, counted: nn.Module) -> nn.Module:
        """The model of ``build_to_count`` with values to run on: zeros for weights that were not filled."""
        import torch

        if not self.meta_is_enough:
            return counted
        if any(one.is_meta for one in counted.parameters()):
            return self.build("cpu")
        with torch.no_grad():
            for one in counted.parameters():
                one.zero_()
        return counted

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the model's code: what it sets in the process holds inside, and is given back."""
        if self._source.guest is None:
            yield
        else:
            with self._source.guest.running():
                yield

    @contextmanager
    def guarded(self, batch_size: int | None = None) -> Iterator[None]:
        """Run the model's code as in ``running``, and say what was wrong where it raises.

        Args:
            batch_size: of the call, for the words of an error; as the inputs say when None.

        Raises:
            UserCodeError: for what a user-defined model raises, naming the module in which it happened.
            SettingError: for an input that a card's network cannot take, naming the layer.
            E4ProfileError: as it is, where the model was not running.
        """
        from e4profile.subjects.guest import STOPPED

        try:
            with self.running():
                yield
        except STOPPED:
            raise
        except BaseException as error:
            found = self._source.explained(error, self, batch_size)
            if found is None:
                raise
            raise found from (error if error.__cause__ is None else error.__cause__)

    # its inputs

    def example(self, device: str = "cpu", dtype: torch.dtype | None = None) -> Example:
        """The inputs of one call, positional and keyword, the same ones every time.

        Args:
            device: where the tensors are.
            dtype: of floating tensors; the model's own when None.
        """
        import torch

        if dtype is None:
            with self.running():
                dtype = self._source.dtype() or torch.float32
        if self.specs:
            return example_from_specs(self.specs, dtype, device=None if device == "cpu" else torch.device(device))
        made = as_example(self.inputs, dtype)
        return made if device == "cpu" else made.map(lambda tensor: tensor.to(device))

    @property
    def given(self) -> str:
        """Its inputs as they are written, ``1x3x32x32 steps:=4``; empty where the inputs themselves were given."""
        return " ".join(map(str, self.specs))

    @property
    def input(self) -> tuple[int, ...] | None:
        """The shape of one image, for a closed form; None for a model of another input than one positional tensor."""
        if self.specs:
            (only, *more) = self.specs
            return only.shape[1:] if only.shape and not (only.name or more) else None
        example = self.example()
        shape = example.single_shape if example.positional else None
        return shape[1:] if shape else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the one input tensor, with its batch.

        Raises:
            SettingError: for a model of another input than one positional tensor.
        """
        if self.input is None:
            raise SettingError(f"{self.name} takes ({self.given}), but a closed form takes one positional tensor")
        return (self.own_batch or 1, *self.input)

    @property
    def batched(self) -> BatchedInputs:
        """The inputs of one call, which can be made for any batch, dtype and device."""
        from e4profile.subjects.batches import BatchedInputs

        return BatchedInputs(self.specs) if self.specs else BatchedInputs(given=self.example())

    @property
    def batch_size(self) -> int:
        """The leading size of the first tensor; 1 where there is none."""
        return next((spec.shape[0] for spec in self.specs if spec.shape), 1)

    @property
    def own_batch(self) -> int | None:
        """The batch where none is asked for; None for inputs whose leading sizes are no batch."""
        return self.batched.batch_size

    def check_batched(self, whose: str) -> None:
        """Refuse inputs whose leading sizes are no batch.

        Raises:
            SettingError: saying what sets the batch.
        """
        if self.own_batch is None:
            raise SettingError(
                f"{self.name}: the leading size of every input ({self.given}) must be the batch, which {whose}"
            )

    def at_batch(self, batch_size: int) -> Subject:
        """The same network on that many images; inputs that were given keep their own batch."""
        return self if self.input_given else replace(self, specs=tuple(with_batch(self.specs, batch_size)))


def names_code(text: str | nn.Module) -> bool:
    """Whether a text refers to somebody's code, ``package.module:name`` or ``path/file.py:name``; so is a module.

    Raises:
        SettingError: for what ``e4profile.subjects.named.parse_named`` refuses.
    """
    if not isinstance(text, str):
        return True
    reference = parse_named(text).reference
    return ":" in reference or reference.endswith(".py")


def resolve(
    what: str | nn.Module,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    *,
    batch_size: int | None = None,
    example: Any = None,
) -> Subject:
    """The network that a name stands for, or a module in hand. Somebody's file or package is imported, which runs it.

    Args:
        what: a card's name, a card file (``.toml``), ``package.module:build`` or ``path/to/file.py:build``, where
            build is an ``nn.Module``, its class, or a callable that returns one; or an ``nn.Module``. A text may hold
            arguments and a name for the row, ``Ours=net.py:Net(width=8)`` (see ``e4profile.subjects.named``).
        inputs: ``1x3x32x32``, ``image=1x3x32x32``, ``mask=1x1x32x32:bool``, ``steps:=4`` (see ``parse_inputs``);
            for a card, one shape that replaces its own.
        arguments: of the builder, or overrides of the card's; those in the text go before them.
        batch_size: the batch, in place of the inputs' own.
        example: shapes, tensors or a dict of them, in place of ``inputs`` (see ``subjects.inputs.as_example``); not
            for a card.

    Raises:
        UnknownNameError: for an unknown name, with the nearest names.
        InputsMissing: for code or a module without inputs.
        SettingError: for inputs that cannot be read, or arguments of a module in hand.
        UserCodeError: for a module that does not import.
        CardError: for a card file that cannot be used.
        NotInstalled: for arguments of a card whose builder's package is not installed.
    """
    specs = parse_inputs(inputs)
    if batch_size is not None:
        specs = with_batch(specs, batch_size)
    given = dict(arguments or {})
    if isinstance(what, str):
        written = parse_named(what)
        if written != Named(what):
            both = {**given, **written.arguments}
            found = resolve(written.reference, inputs, both, batch_size=batch_size, example=example)
            return replace(found, row=written.name)
    if isinstance(what, str) and not names_code(what):
        if example is not None:
            raise SettingError(f"{what} is a card: it has its own input size")
        card = _card(what)
        if card.builder:
            return of_card(card, specs, batch_size).with_arguments(given)
        return of_card(card.with_arguments(given), specs, batch_size)
    name = what if isinstance(what, str) else type(what).__name__
    if name.endswith(".py"):
        raise SettingError(f"{name!r} must name a builder behind a colon, for example {_suggestion(name)}")
    if not specs and example is None:
        raise InputsMissing(f"{name} needs its inputs: give --input with the batch, for example --input 1x3x32x32")
    from e4profile.subjects.guest import Guest
    from e4profile.subjects.refusals import check_module
    from e4profile.subjects.user_code import load

    if isinstance(what, str):
        guest = Guest(name)
        source = FromCode(name, load(name, guest), given, guest)
    else:
        if given:
            raise SettingError(f"{', '.join(given)}: arguments are for a builder, not for a module")
        check_module(name, what)
        source = FromCode(name, what)
    return Subject(name, tuple(specs), source, example)


def _card(name: str) -> Card:
    try:
        return find_card(name)
    except UnknownNameError as error:
        if Path(name).exists() or "." in name:
            text = f"{name!r} is not a card; a user-defined model is package.module:build or path/file.py:build"
            raise SettingError(text) from error
        raise


def of_card(card: Card, specs: Sequence[InputSpec] = (), batch_size: int | None = None) -> Subject:
    """The subject of a card in hand, on its own images where no input is given; a builder is not imported yet.

    Raises:
        SettingError: for another input of a topology than one tensor of float32 images.
    """
    source = FromBuilder(card, CardCode(card)) if card.builder else FromCard(card)
    if not specs:
        own = InputSpec(shape=(batch_size or 1, *card.input))
        return Subject(card.name, (own,), source, input_given=False)
    if card.builder:
        return Subject(card.name, tuple(specs), source)
    if len(specs) > 1 or specs[0].name or len(specs[0].shape or ()) != 4:
        given = " ".join(map(str, specs))
        raise SettingError(f"{card.name} takes one input of batch x channels x height x width, not ({given})")
    if specs[0].dtype not in (None, "float32"):
        dtype = specs[0].dtype
        raise SettingError(f"{card.name} takes images of float32, not ({specs[0]}): omit :{dtype}")
    return Subject(card.name, tuple(specs), source)


def _suggestion(file: str) -> str:
    """A file with the name of something in it that may build a model."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    names = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", text, re.MULTILINE)
    near = difflib.get_close_matches("build", names, n=1, cutoff=0.3) or names[-1:]
    return f"{file}:{near[0] if near else 'build'}"
