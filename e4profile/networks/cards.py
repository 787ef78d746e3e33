"""Cards: one TOML file per published network holds its architecture and every published figure.

Loading a card imports no torch; building its network does.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.resources import files
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError, read_text

if TYPE_CHECKING:
    from torch import nn

    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

GPU_MEMORY = "gpu_memory"

COMPARED = ("params", "flops", "macs", GPU_MEMORY)
"""Quantities of a published row that are compared with the built network; the others are carried along."""

REPRODUCED = "reproduced"
TRUNCATED = "reproduced (truncated)"
BY_RULE = "reproduced under a named rule"
UNRESOLVED = "unresolved"
VERDICTS = (REPRODUCED, TRUNCATED, BY_RULE, UNRESOLVED)

BUILT_IN = "models/"
"""What the file of a card of the package begins with, in messages."""

OF_E4_LAYERS = ("reduction", "slices", "channels_per_slice", "concatenate", "encoder_norm", "squeeze_affine")
"""Arguments that say something of E4 layers only."""
_SYMBOLS = {"r": "reduction", "s": "slices", "k": "kernel", "c": "width"}
"""What an argument is called that a reader of the papers knows by its symbol."""
_EXCLUSIVE = (("slices", "channels_per_slice"),)


class CardError(E4ProfileError, ValueError):
    """A card that cannot be used: names the file, the key and the reason."""


@dataclass(frozen=True)
class Cell:
    """One published figure.

    Attributes:
        quantity: ``params``, ``flops``, ``macs``, or a quantity that is only carried, like ``test_error``.
        value: as printed.
        convention: how the figure was counted; None for parameters and carried quantities.
        rounding: whether the printed digits are rounded or truncated.
        verdict: what building the network is known to give; None for carried quantities.
        evidence: why the cell is unresolved, or what reproduces it.
        arguments: overrides of the card's arguments for this cell alone.
        spread: the printed deviation over runs.
        unit: the printed unit.
    """

    quantity: str
    value: str
    convention: str | None = None
    rounding: str = "rounded"
    verdict: str | None = None
    evidence: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    spread: str | None = None
    unit: str | None = None

    @property
    def compared(self) -> bool:
        """Whether the built network is held against this figure."""
        return self.quantity in COMPARED


@dataclass(frozen=True)
class PublishedRow:
    """One printed row of one published table.

    Attributes:
        table: the table's name.
        order: the row's position in the table.
        row: as printed.
        source: paper and table.
        arguments: what this row changes of the card's.
        cells: the printed figures.
        table_title: of the table, for people; one of its rows says it.
    """

    table: str
    order: int
    row: str
    source: str
    arguments: Mapping[str, Any]
    cells: tuple[Cell, ...]
    table_title: str = ""


@dataclass(frozen=True)
class Card:
    """One published network.

    Attributes:
        name: the card's name on the command line.
        title: for people.
        network: the topology's name (see ``e4profile.networks``); empty where the card names a builder.
        input: (channels, h, w) of one image; with a builder any sizes, without the batch.
        arguments: keyword arguments of the topology or the builder.
        source: paper and section.
        published: the printed rows.
        notes: what a reader should know, a sentence each.
        training: the published training recipe.
        file: where the card is, for messages.
        overridden: the arguments that are not in the file.
        builder: in place of a topology, ``package.module:function``, or ``net.py:function`` beside the card.
        install: how the builder's package is installed, a line for a shell.
        commit: the commit of that package with which the card was checked.
    """

    name: str
    title: str
    network: str
    input: tuple[int, ...]
    arguments: Mapping[str, Any]
    source: str = ""
    published: tuple[PublishedRow, ...] = ()
    notes: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    overridden: frozenset[str] = frozenset()
    builder: str = ""
    install: str = ""
    commit: str = ""

    def with_arguments(self, overrides: Mapping[str, Any]) -> Card:
        """The same card with some arguments replaced.

        ``slices`` and ``channels_per_slice`` say the same thing two ways: giving one drops the other.

        Raises:
            UnknownNameError: for an argument that the topology does not take, with the nearest names.
            SettingError: for the symbol of an argument, with the argument's name.
        """
        if not overrides:
            return self
        known = self._parameters()
        for name in overrides:
            if name not in known:
                meant = _SYMBOLS.get(name)
                if meant in known:
                    raise SettingError(f"unknown argument of {self.name} {name!r}; did you mean {meant}?")
                raise UnknownNameError(f"argument of {self.name}", name, known)
        arguments = dict(self.arguments)
        for names in _EXCLUSIVE:
            if any(overrides.get(name) is not None for name in names):
                for name in names:
                    arguments.pop(name, None)
        arguments.update(overrides)
        return replace(
            self,
            arguments={key: arguments[key] for key in sorted(arguments)},
            overridden=self.overridden | set(overrides),
        )

    def without_arguments(self, names: Collection[str]) -> Card:
        """The same card with the topology's defaults for some arguments."""
        return replace(self, arguments={name: value for name, value in self.arguments.items() if name not in names})

    def accepts(self, argument: str) -> bool:
        """Whether the topology takes an argument of this name; a builder is not imported for the answer."""
        return argument in self._parameters()

    def argument(self, name: str) -> Any:
        """The value of an argument: the card's, else the topology's default; None where neither has one."""
        if name in self.arguments:
            return self.arguments[name]
        default = self._parameters()[name].default if self.accepts(name) else None
        return None if default is Parameter.empty else default

    def _parameters(self) -> Mapping[str, Parameter]:
        return {} if self.builder else signature(self.topology).parameters

    @property
    def reference(self) -> str:
        """The builder as it is found from the working directory: a file stands beside the card."""
        source, _, function = self.builder.rpartition(":")
        return f"{Path(self.file).parent / source}:{function}" if source.endswith(".py") else self.builder

    @property
    def topology(self) -> Any:
        """The topology's builder.

        Raises:
            CardError: for a topology that does not exist.
        """
        from e4profile.networks import NETWORKS

        if self.network not in NETWORKS:
            unknown = UnknownNameError("topology", self.network, NETWORKS)
            raise CardError(f"{self.file or self.name}: network: {unknown}")
        return NETWORKS[self.network]

    def _check_arguments(self) -> None:
        parameters = self._parameters()
        where = f"{self.file or self.name}: arguments"
        for name in self.arguments:
            if name not in parameters:
                raise CardError(f"{where}.{name}: {UnknownNameError('argument', name, parameters)}")
            value, default = self.arguments[name], parameters[name].default
            if isinstance(default, bool) and not isinstance(value, bool):
                raise SettingError(f"{name} (={value!r}) must be true or false")
        missing = {name for name, one in parameters.items() if one.default is Parameter.empty} - set(self.arguments)
        if missing:
            raise CardError(f"{where}: lacks {', '.join(sorted(missing))}")
        self._check_layers(parameters)

    def _check_layers(self, parameters: Mapping[str, Parameter]) -> None:
        """Refuse what says something of E4 layers only, where there are none and somebody has set it."""
        if "layer" not in parameters or self.argument("layer") != "group":
            return
        # a card whose layer is overridden keeps its other arguments, for the way back
        set_here = self.overridden if "layer" in self.overridden else set(self.arguments)
        for name in OF_E4_LAYERS:
            value = self.arguments.get(name)
            if name in parameters and name in set_here and value is not None and value != parameters[name].default:
                raise SettingError(
                    f"{name} (={value!r}) applies to E4 layers, and {self.name} has none (layer='group'): omit it, or "
                    "set layer=e4 too"
                )

    def _named(self, error: E4ProfileError) -> E4ProfileError:
        """An error about a value, with the file and the key where it stands; as it is for any other value."""
        if not self.file.endswith(".toml") or self.file.startswith(BUILT_IN):
            return error
        text = str(error)
        about = [name for name in self.arguments if f"{name} (=" in text]
        about += [name for name, value in self.arguments.items() if isinstance(value, str) and repr(value) in text]
        if not about or about[0] in self.overridden or text.startswith(self.file):
            return error
        return CardError(f"{self.file}: arguments.{about[0]}: {text}")

    def build(self, device: str = "meta", seed: int = 0) -> nn.Module:
        """Build the network in evaluation mode.

        Args:
            device: ``"meta"`` needs no memory and is enough for counting; ``"cpu"`` gives real weights.
            seed: of the weights; the caller's random state is kept.

        Raises:
            CardError: for a topology or an argument that does not exist, or an argument that is missing.
            SettingError: for arguments that the topology or a layer refuses.
        """
        import torch

        topology = self.topology
        try:
            self._check_arguments()
        except SettingError as error:
            raise self._named(error) from error
        with torch.random.fork_rng(range(torch.cuda.device_count())), torch.device(device):
            torch.manual_seed(seed)
            try:
                model: nn.Module = topology(**self.arguments)
            except E4ProfileError as error:
                raise self._named(error) from error
            except Exception as error:  # whatever torch says of a value from a card or the command line
                setting = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
                first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
                where = self.name if self.file.startswith(BUILT_IN) or not self.file else self.file
                raise SettingError(f"{where} cannot be built with {setting}: {first_line}") from error
        return model.eval()

    def input_shape(self, batch_size: int = 1) -> tuple[int, ...]:
        """(B, channels, h, w)."""
        return (batch_size, *self.input)


def _folder() -> Traversable:
    shipped = files("e4profile") / "models"
    if shipped.is_dir():
        return shipped
    beside = Path(__file__).resolve().parents[2] / "models"
    if not beside.is_dir():
        raise CardError(f"no folder of cards: neither {shipped} nor {beside} exists; reinstall e4profile")
    return beside


@lru_cache(maxsize=1)
def built_in_cards() -> dict[str, Card]:
    """Every card of the package by name, sorted.

    Raises:
        CardError: for a malformed card.
    """
    entries = sorted(entry.name for entry in _folder().iterdir() if entry.name.endswith(".toml"))
    return {card.name: card for card in map(_built_in, entries)}


def is_built_in(name: str) -> bool:
    """Whether the package has a card of that name; no card is read."""
    return not {"/", "\\"} & set(name) and (_folder() / f"{name}.toml").is_file()


def all_cards() -> dict[str, Card]:
    """Every card by name: the package's, then those found in folders and distributions (``found_cards``).

    Raises:
        CardError: for a malformed card, or two of one name.
    """
    from e4profile.networks.found_cards import found_cards

    return {**built_in_cards(), **found_cards()}


@cache
def _built_in(file: str) -> Card:
    from e4profile.networks.card_reader import parse_card

    card = parse_card((_folder() / file).read_text(encoding="utf-8"), f"{BUILT_IN}{file}")
    if f"{card.name}.toml" != file:
        raise CardError(f"{BUILT_IN}{file}: name: {card.name!r} must equal the file's name")
    return card


def find_card(name: str) -> Card:
    """The card of a name (any case), or the card in a ``.toml`` file.

    Raises:
        UnknownNameError: with the nearest names.
        CardError: for a file that cannot be read or is malformed.
    """
    from e4profile.networks.card_reader import parse_card
    from e4profile.networks.found_cards import found_cards

    if name.endswith(".toml"):
        return parse_card(read_text(Path(name), CardError), name)
    # a card that shadows one of the package's is refused here, also where that one is meant
    near = found_cards(distributions=False)
    if is_built_in(name.lower()):
        return _built_in(f"{name.lower()}.toml")
    found = near.get(name.lower()) or found_cards().get(name.lower())
    if found is None:
        raise UnknownNameError("model", name, all_cards())
    return found
