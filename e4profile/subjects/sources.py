"""Where a network comes from: a card, somebody's code, or a module in hand, behind one interface.

Only ``e4profile.subjects.subject`` looks at a source.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, cast

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.layers.execution import Execution
    from e4profile.networks.cards import Card, PublishedRow
    from e4profile.subjects.guest import Guest
    from e4profile.subjects.subject import Subject


def parameters_of(builder: Any) -> tuple[dict[str, Parameter], bool]:
    """The named arguments of a builder, and whether it takes any other; none for a module or a builtin."""
    from torch import nn

    if isinstance(builder, nn.Module):
        return {}, False
    try:
        found = signature(builder).parameters
    except (TypeError, ValueError):
        return {}, False
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in found.values())
    return {name: one for name, one in found.items() if one.kind in named}, takes_any


@dataclass(frozen=True)
class OfCard:
    """What a card says of a network, whatever builds it."""

    card: Card

    @property
    def title(self) -> str | None:
        """The card's."""
        return self.card.title

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Of the card, and those that override them."""
        return self.card.arguments

    @property
    def overrides(self) -> Mapping[str, Any]:
        """The arguments that the card's file does not hold."""
        return {name: value for name, value in self.card.arguments.items() if name in self.card.overridden}

    @property
    def reference(self) -> str:
        """The card's file; empty for a card of the package, which its name finds."""
        from e4profile.networks.cards import BUILT_IN

        return "" if self.card.file.startswith(BUILT_IN) else self.card.file

    @property
    def published(self) -> tuple[PublishedRow, ...]:
        """The printed rows."""
        return self.card.published

    @property
    def training(self) -> Mapping[str, Any]:
        """The published recipe."""
        return self.card.training


@dataclass(frozen=True)
class FromCard(OfCard):
    """A card: a topology of the package with its arguments, and what was published of it."""

    guest: ClassVar[Guest | None] = None
    costed_whole: ClassVar[bool] = True
    arguments_as_in_layers: ClassVar[bool] = True
    meta_is_enough: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()
    code_digest: ClassVar[str] = ""

    @property
    def topology(self) -> str:
        """The topology's name."""
        return self.card.network

    @property
    def builder(self) -> Any:
        """The topology's builder."""
        return self.card.topology

    @property
    def execution(self) -> str | None:
        """Of the group convolutions, where it is another than the card's."""
        found: str | None = self.overrides.get("execution")
        return found

    def executed(self, execution: str) -> FromCard:
        """The same card with another execution, unless that is its own."""
        from e4profile.layers.execution import EXECUTIONS

        now = self.card.argument("execution")
        if "execution" in self.card.arguments and now not in EXECUTIONS:
            raise SettingError(
                f"execution (={now!r}) belongs to {self.card.name}'s own layers: omit it, or --execution"
            )
        return self if now == execution else self.with_arguments({"execution": execution})

    def with_arguments(self, arguments: Mapping[str, Any]) -> FromCard:
        """The same card with some arguments replaced."""
        return replace(self, card=self.card.with_arguments(arguments))

    def without_arguments(self, names: Collection[str]) -> FromCard:
        """The same card with the topology's defaults for some arguments."""
        return replace(self, card=self.card.without_arguments(names))

    def refuse(self, argument: str) -> None:
        """Raise what is said of an argument that the topology does not take."""
        self.card.with_arguments({argument: None})

    def build(self, device: str | None, seed: int) -> nn.Module:
        """A new network, on the default device when None."""
        import torch

        return self.card.build(str(torch.get_default_device()) if device is None else device, seed)

    def build_unfilled(self) -> nn.Module:
        """A new network on the CPU whose weights are not filled; on the meta device where it is large."""
        from e4profile.networks.unfilled import Unfilled

        try:
            with Unfilled():
                return self.card.build("cpu")
        except SettingError as error:
            if not isinstance(error.__cause__, RuntimeError):
                raise
        return self.card.build("meta")

    def dtype(self) -> torch.dtype | None:
        """None: the default."""
        return None

    def explained(self, error: BaseException, subject: Subject, batch_size: int | None) -> E4ProfileError | None:
        """What torch says of an input that does not fit, with the layer where it can be told; None for our errors."""
        from e4profile.layers.containers import trace
        from e4profile.subjects.guest import text_of

        if isinstance(error, E4ProfileError) or not isinstance(error, (RuntimeError, TypeError, ValueError)):
            return None
        shape = (batch_size or subject.batch_size, *(subject.input or ()))
        try:
            # the closed form follows the same shapes and names the layer that they do not fit
            trace(self.card.build("meta"), shape)
            why = (text_of(error).strip() or type(error).__name__).splitlines()[0]
        except SettingError as reason:
            why = str(reason)
        return SettingError(f"{subject.name} cannot run on an input {shape}: {why}")


@dataclass(frozen=True)
class FromCode:
    """What somebody's code builds; or a module in hand, which has no guest and is left as it was found.

    Attributes:
        topology: the reference of the builder, or the class of the module.
        builder: an ``nn.Module``, or what builds one.
        arguments: that were given.
        guest: the process as the code wants it; None for a module in hand.
        execution: of the group convolutions, on a copy of what is built; None leaves them as they are.
    """

    topology: str
    builder: Any = field(compare=False)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    guest: Guest | None = field(default=None, repr=False, compare=False)
    execution: str | None = None
    title: ClassVar[str | None] = None
    published: ClassVar[tuple[PublishedRow, ...]] = ()
    training: ClassVar[Mapping[str, Any]] = {}
    costed_whole: ClassVar[bool] = False
    arguments_as_in_layers: ClassVar[bool] = False
    meta_is_enough: ClassVar[bool] = False
    notes: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = ""

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Every argument: none is known that was not given."""
        return {**self.arguments, **({} if self.execution is None else {"execution": self.execution})}

    @property
    def code_digest(self) -> str:
        """Of the files that the builder was imported from; empty for a module in hand."""
        from e4profile.subjects.user_code import code_digest

        return "" if self.guest is None else code_digest(self.topology, self.guest)

    def executed(self, execution: str) -> FromCode:
        """The same builder with another execution of what it builds, not built yet."""
        return replace(self, execution=execution)

    def with_arguments(self, arguments: Mapping[str, Any]) -> FromCode:
        """The same builder with some arguments replaced, not built yet."""
        return replace(self, arguments={**self.arguments, **arguments})

    def without_arguments(self, names: Collection[str]) -> FromCode:
        """The same builder with its defaults for some arguments, not built yet."""
        return replace(self, arguments={name: value for name, value in self.arguments.items() if name not in names})

    def refuse(self, argument: str) -> None:
        """Raise what is said of an argument that the builder does not take."""
        known, _ = parameters_of(self.builder)
        if not known:
            raise SettingError(f"{self.topology} takes no arguments, so not {argument}: name a builder that takes it")
        raise UnknownNameError(f"argument of {self.topology}", argument, known)

    def build(self, device: str | None, _seed: int) -> nn.Module:
        """The network, which is built once; a copy of it for another device than its own."""
        from e4profile.subjects.as_found import set_mode
        from e4profile.subjects.copies import copied
        from e4profile.subjects.guest import STOPPED, UserCodeError, first_line

        model = self._model
        if self.guest is None:
            return model if device in (None, _device_of(model)) else copied(model).to(device)
        what = "has no evaluation mode"
        try:
            with self.guest.running():
                # its value is not looked at: a network's own eval() may return nothing
                set_mode(model, training=False)
                what = f"cannot be copied to {device}"
                return model if device in (None, _device_of(model)) else copied(model).to(device)
        except STOPPED:
            raise
        except BaseException as error:
            raise UserCodeError(f"{self.topology} {what}: {first_line(error)}", error) from error

    @cached_property
    def _model(self) -> nn.Module:
        from e4profile.layers import set_execution
        from e4profile.subjects.copies import copied
        from e4profile.subjects.guest import STOPPED, UserCodeError, first_line
        from e4profile.subjects.user_code import build_model

        found: nn.Module = self.builder
        if self.guest is not None:
            found = build_model(self.topology, self.builder, self.arguments, self.guest)
        if self.execution is None:
            return found
        # whoever built it may hold it too
        try:
            with nullcontext() if self.guest is None else self.guest.running():
                return set_execution(copied(found), cast("Execution", self.execution))
        except (*STOPPED, E4ProfileError):
            raise
        except BaseException as error:
            text = f"{self.topology} cannot be copied for another execution: {first_line(error)}"
            raise UserCodeError(text, error) from error

    def build_unfilled(self) -> nn.Module:
        """The network: what it runs may depend on its values."""
        return self.build(None, 0)

    def dtype(self) -> torch.dtype | None:
        """The floating dtype of the parameters; None where there is none."""
        return next((one.dtype for one in self._model.parameters() if one.is_floating_point()), None)

    def explained(self, error: BaseException, subject: Subject, batch_size: int | None) -> E4ProfileError | None:
        """What the model raised, with the module in which it happened; None for our errors outside of it."""
        import torch

        from e4profile.subjects.guest import failing_module, run_error
        from e4profile.subjects.input_hints import input_hint

        # a witness may wrap what the model raised
        own = error if error.__cause__ is None else error.__cause__
        with subject.running():
            if isinstance(error, E4ProfileError) and failing_module(self._model, own.__traceback__) is None:
                return None
            inputs = subject.example() if batch_size is None else subject.batched.at(batch_size, torch.float32, "meta")
            failed = run_error(subject.name, self._model, str(inputs), own)
            failed.args = (f"{failed}{input_hint(self._model, subject.specs, own)}",)
        return failed


def _device_of(model: nn.Module) -> str:
    return next((one.device.type for one in (*model.parameters(), *model.buffers())), "cpu")
