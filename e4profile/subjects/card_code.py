"""A network whose card names somebody's code in place of a topology: what was published of it, and what builds it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from inspect import Parameter
from typing import TYPE_CHECKING, Any, ClassVar

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.networks.cards import Card, CardError
from e4profile.subjects.sources import FromCode, OfCard, parameters_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from e4profile.subjects.guest import Guest
    from e4profile.subjects.subject import Subject


class NotInstalled(SettingError):
    """A card whose builder needs a package that is not here; ``how`` says which, and how it is installed."""

    def __init__(self, card: Card, package: str) -> None:
        commit = f" at commit {card.commit}" if card.commit and card.commit not in card.install else ""
        install = f"{card.install}{commit}" if card.install else f"the card does not say how it is installed{commit}"
        self.how = f"no package {package!r}: {install}"
        super().__init__(f"{card.name} is not installed: {self.how}")


class CardCode:
    """The code that a card names, imported once, when it is first asked for."""

    def __init__(self, card: Card) -> None:
        self.card = card

    @cached_property
    def guest(self) -> Guest:
        """The process as the code wants it."""
        from e4profile.subjects.guest import Guest

        return Guest(self.card.name)

    @cached_property
    def builder(self) -> Any:
        """What builds the network.

        Raises:
            NotInstalled: where its package, or one that it imports, is not installed.
            CardError: for a file or a name that does not exist.
            UserCodeError: for code that does not import.
        """
        from e4profile.subjects.guest import UserCodeError
        from e4profile.subjects.user_code import load

        try:
            return load(self.card.reference, self.guest)
        except UserCodeError as error:
            raise self.explained(error) from error
        except E4ProfileError as error:
            raise CardError(f"{self.where}: {error}") from error

    @property
    def where(self) -> str:
        """File and key, for messages."""
        return f"{self.card.file}: builder"

    def explained(self, error: E4ProfileError) -> E4ProfileError:
        """An error of the code with the card's file and key; what is not installed says so instead."""
        from e4profile.subjects.guest import UserCodeError

        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and (missing := _absent(cause.name)):
            return NotInstalled(self.card, missing)
        if not isinstance(error, UserCodeError):
            return CardError(f"{self.where}: {error}")
        found = UserCodeError(f"{self.where}: {error}")
        found.details = error.details
        return found


def _installed_commit(module: str) -> str | None:
    """The commit from which the distribution of a module was installed; None where that is not recorded."""
    import json
    from importlib.metadata import distribution, packages_distributions

    for name in packages_distributions().get(module.partition(".")[0], []):
        recorded = distribution(name).read_text("direct_url.json")
        found = json.loads(recorded).get("vcs_info", {}).get("commit_id") if recorded else None
        if isinstance(found, str):
            return found
    return None


def _absent(module: str | None) -> str | None:
    """The package of a module that is not installed; None where it is, or lies in one that is."""
    top = (module or "").partition(".")[0]
    if not top or top in sys.modules:
        return None
    try:
        return top if find_spec(top) is None else None
    except (ImportError, ValueError):
        return None


@dataclass(frozen=True)
class FromBuilder(OfCard):
    """A card that names a builder, with its arguments and what was published of it.

    Attributes:
        card: with the arguments in place.
        code: what its builder is; shared by all variants, so that it is imported once.
        execution: of the group convolutions, on a copy of what is built; None leaves them as they are.
    """

    code: CardCode = field(repr=False, compare=False)
    execution: str | None = None
    costed_whole: ClassVar[bool] = False
    arguments_as_in_layers: ClassVar[bool] = False
    meta_is_enough: ClassVar[bool] = False

    @property
    def guest(self) -> Guest:
        """The process as the code wants it."""
        return self.code.guest

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the code: that another commit of it is installed than the card's."""
        commit, here = self.card.commit, None
        source = self.card.builder.rpartition(":")[0]
        if commit and not source.endswith(".py"):
            here = _installed_commit(source)
        if here is None or here.startswith(commit) or commit.startswith(here):
            return ()
        return (f"{self.card.name}: commit {here} is installed, the card's figures come from {commit}",)

    @property
    def code_digest(self) -> str:
        """Of the files that the builder is imported from."""
        from e4profile.subjects.user_code import code_digest

        _ = self.builder
        return code_digest(self.card.reference, self.guest)

    @property
    def topology(self) -> str:
        """The builder, as it is found from the working directory."""
        return self.card.reference

    @property
    def builder(self) -> Any:
        """What builds the network; asking imports it."""
        return self.code.builder

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What the card's file does not hold."""
        return {**super().overrides, **({} if self.execution is None else {"execution": self.execution})}

    def executed(self, execution: str) -> FromBuilder:
        """The same network with another execution, not built yet."""
        return replace(self, execution=execution)

    def with_arguments(self, arguments: Mapping[str, Any]) -> FromBuilder:
        """The same network with some arguments replaced, not built yet."""
        given = {**self.card.arguments, **arguments}
        overridden = self.card.overridden | set(arguments)
        return replace(self, card=replace(self.card, arguments=given, overridden=overridden))

    def without_arguments(self, names: Collection[str]) -> FromBuilder:
        """The same network with its builder's defaults for some arguments, not built yet."""
        return replace(self, card=self.card.without_arguments(names))

    def refuse(self, argument: str) -> None:
        """Raise what is said of an argument that the builder does not take."""
        self._written.refuse(argument)

    @cached_property
    def _written(self) -> FromCode:
        return FromCode(self.topology, self.builder, self.arguments, self.guest, self.execution)

    def build(self, device: str | None, seed: int) -> nn.Module:
        """The network, which is built once; a copy of it for another device than its own."""
        self._check_arguments()
        try:
            return self._written.build(device, seed)
        except E4ProfileError as error:
            raise self.code.explained(error) from error

    def build_unfilled(self) -> nn.Module:
        """The network: what it runs may depend on its values."""
        return self.build(None, 0)

    def dtype(self) -> torch.dtype | None:
        """The floating dtype of the parameters; None where there is none."""
        self.build(None, 0)
        return self._written.dtype()

    def explained(self, error: BaseException, subject: Subject, batch_size: int | None) -> E4ProfileError | None:
        """What the network raised, with the module in which it happened; None for our errors outside of it."""
        return self._written.explained(error, subject, batch_size)

    def _check_arguments(self) -> None:
        """Refuse arguments of the card's file that its builder does not take, and a lack of those that it needs."""
        known, takes_any = parameters_of(self.builder)
        where = f"{self.card.file}: arguments"
        if not known and not takes_any:
            return
        for name in self.arguments:
            if name not in known and not takes_any:
                raise CardError(f"{where}.{name}: {UnknownNameError(f'argument of {self.topology}', name, known)}")
        missing = [name for name, one in known.items() if one.default is Parameter.empty and name not in self.arguments]
        if missing:
            raise CardError(
                f"{where}: lacks {', '.join(missing)}, which {self.topology} needs: give {missing[0]} a value there"
            )
