"""What a network costs at many settings at once, by closed form: no module is built for any of them, nothing runs.

The topology's own code is walked with numbers that stand for all settings (see ``e4profile.layers.many``). Where its
choices differ between settings they are walked in parts: one walk, a formula per quantity, serves all of a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isclose
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from e4profile.errors import E4ProfileError, SettingError, UnknownNameError
from e4profile.layers import set_execution
from e4profile.layers.base import Shape
from e4profile.layers.containers import Chain, trace
from e4profile.layers.drawn import Undrawable, drawing
from e4profile.layers.many import Columns, Many, TooManyAnswers, Whole, values_of
from e4profile.subjects.guest import STOPPED, UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import described
from e4profile.witnesses.counts.base import Count
from e4profile.witnesses.counts.closed_form import formed_layers, training_step_macs
from e4profile.witnesses.memory.closed_form import predict_saved
from e4profile.witnesses.memory.step import training_state_bytes
from e4profile.witnesses.timing.rates import Rate, seconds_of
from e4profile.witnesses.timing.work import Operation, forward_operations
from e4profile.witnesses.variants import VariantCounter

Integers: TypeAlias = npt.NDArray[Any]

_MOST_WALKS = 20_000


class NotTogether(SettingError):
    """A network whose settings cannot be walked together, so that each has to be built."""


@dataclass(frozen=True)
class Choice:
    """A column of anything but whole numbers: distinct values, and which of them each setting has."""

    values: tuple[Any, ...]
    codes: Integers


Column: TypeAlias = "Integers | Choice"


@dataclass
class Drawn:
    """A network that was drawn for some settings, and what its closed form says of them.

    Attributes:
        model: without a tensor.
        shape: of its input, with the batch.
        optimiser: of the training state.
        rates: of the kinds of operators on a device, for a predicted time.
    """

    model: nn.Module
    shape: Shape
    optimiser: str = "sgd"
    rates: Mapping[str, Rate] | None = None

    def _counted(self) -> Count:
        _, steps = trace(self.model, self.shape)
        return Count("closed form", "", formed_layers(self.model, steps))

    @cached_property
    def count(self) -> Count:
        """By layer and kind."""
        return self._counted()

    @cached_property
    def irrep_macs(self) -> int:
        """MACs with its group convolutions in the irrep basis."""
        set_execution(self.model, "irreps")
        return self._counted().macs

    @cached_property
    def activations(self) -> int:
        """Elements of the maps that layers make for one another; a view of a map is none of its own."""
        _, steps = trace(self.model, self.shape)
        # a container that is charged for makes nothing of its own
        layers = [step for step in steps if not isinstance(step.module, Chain)]
        return sum(_elements(step.output_shape) for step in layers if not getattr(step.form, "hands_on_input", False))

    @cached_property
    def saved_bytes(self) -> int:
        """Bytes kept between forward and backward, in float32 on a CPU."""
        return predict_saved(self.model, self.shape[1:]).saved_bytes(self.shape[0])

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of parameters, gradients and optimiser state in float32."""
        tensors = len(list(self.model.parameters()))
        state = training_state_bytes(self.count.params, self.optimiser, torch.float32, tensors=tensors)
        return state.parameter_bytes + state.gradient_bytes + state.optimiser_bytes

    def predicted_s(self, *, step: bool = False) -> Any:
        """Seconds of a forward pass, or of a training step, by the rates of a device, for each setting."""
        assert self.rates is not None
        alike: dict[Any, tuple[Operation, int]] = {}
        for one in forward_operations(self.model, self.shape):
            key = one.kind, *(size.key if isinstance(size, Many) else size for size in (one.macs, one.bytes, one.calls))
            alike[key] = one, alike.get(key, (one, 0))[1] + 1
        total: Any = 0.0
        for one, times in alike.values():
            macs, moved, calls = (
                size.values().astype(float) if isinstance(size, Many) else float(size)
                for size in (one.macs, one.bytes, one.calls)
            )
            total = total + times * seconds_of(self.rates, one.kind, macs, moved, calls, step=step)
        return total


def _elements(shape: Shape) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements


FORMULAS: Mapping[str, Callable[[Drawn], Any]] = {
    "params": lambda drawn: drawn.count.params,
    "macs": lambda drawn: drawn.count.macs,
    "training_macs": lambda drawn: training_step_macs(drawn.model, drawn.shape).total,
    "activations": lambda drawn: drawn.activations,
    "saved_bytes": lambda drawn: drawn.saved_bytes,
    "state_bytes": lambda drawn: drawn.state_bytes,
    "predicted_s": lambda drawn: drawn.predicted_s(),
    "predicted_step_s": lambda drawn: drawn.predicted_s(step=True),
    # last: it changes how the network runs
    "irrep_macs": lambda drawn: drawn.irrep_macs,
}
"""Every quantity that follows from the topology, and from the rates of a device where it is a time."""

EXACT = tuple(name for name in FORMULAS if not name.startswith("predicted"))
"""Those of whole numbers, which need no rates."""


@dataclass
class ManyCosts:
    """What each of many settings costs.

    Attributes:
        size: how many settings there are.
        possible: whether a setting can be built.
        quantities: exact whole numbers by setting: of 64 bits, or Python's own where those are too few; 0 where a
            setting has none.
        unstated: by quantity the settings of which it is not stated, and why.
        refusals: the settings that cannot be built, in parts that the topology refused alike.
        walks: how often the topology was walked.
    """

    size: int
    possible: npt.NDArray[np.bool_]
    quantities: dict[str, Integers]
    _subject: Subject
    _columns: Mapping[str, Column]
    unstated: dict[str, list[tuple[Integers, str]]] = field(default_factory=dict)
    refusals: list[Integers] = field(default_factory=list)
    walks: int = 0

    def stated(self, name: str) -> npt.NDArray[np.bool_]:
        """Whether a setting has a quantity: it can be built, and its layers state it."""
        has = self.possible & (name in self.quantities)
        for part, _ in self.unstated.get(name, ()):
            has[part] = False
        return has

    def setting(self, index: int) -> dict[str, Any]:
        """The arguments of a setting."""
        return setting_of(self._columns, index)

    def refusal(self, index: int) -> str:
        """Why a setting cannot be built, in the words of the build: it is tried."""
        return refusal_of(self._subject.with_arguments(self.setting(index))) or ""


def setting_of(columns: Mapping[str, Column], index: int) -> dict[str, Any]:
    """The arguments of a setting, whole numbers as Python's."""
    return {
        name: column.values[column.codes[index]] if isinstance(column, Choice) else int(column[index])
        for name, column in columns.items()
    }


def refusal_of(subject: Subject) -> str | None:
    """What building a network and giving it its input refuses; None where it runs."""
    try:
        model = subject.build_to_count()
        with subject.guarded():
            trace(model, subject.shape)
    except (SettingError, UserCodeError) as error:
        # somebody's network may have no closed form and run all the same
        return str(error) if subject.costed_whole else _refused_by_a_run(subject)
    return None


def _refused_by_a_run(subject: Subject) -> str | None:
    try:
        VariantCounter()(subject)
    except (SettingError, UserCodeError) as error:
        return str(error)
    return None


def column_of(values: Sequence[Any] | Integers) -> Column:
    """A column of settings: whole numbers as an array, anything else by its distinct values."""
    if isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64, casting="safe" if values.dtype.kind == "i" else "same_kind")
    known: dict[tuple[type, str], int] = {}
    given = list(values)
    if all(type(value) is int for value in given):
        if any(abs(value) >= 2**63 for value in given):
            raise SettingError("a setting is a whole number beyond 64 bits")
        return np.array(given, dtype=np.int64)
    codes = [known.setdefault((type(value), repr(value)), len(known)) for value in given]
    first = {code: value for code, value in reversed(list(zip(codes, given, strict=True)))}
    return Choice(tuple(first[code] for code in range(len(known))), np.array(codes, dtype=np.int64))


def cost_of_many(
    subject: Subject,
    settings: Mapping[str, Sequence[Any] | Column],
    quantities: Sequence[str] = EXACT,
    *,
    batch_size: int | None = None,
    optimiser: str = "sgd",
    rates: Mapping[str, Rate] | None = None,
) -> ManyCosts:
    """What a network costs at every one of many settings, exactly.

    Args:
        subject: the network.
        settings: by argument the value of each setting, all of one length: an integer array, or anything else;
            without any the network as it is.
        quantities: of ``FORMULAS``.
        batch_size: images, of which the network's own inputs have theirs when None.
        optimiser: of the training state.
        rates: of a calibration, for predicted times.

    Raises:
        UnknownNameError: for an argument that the network does not take, or a quantity that is none.
        NotTogether: for a network whose code or whose layers do not follow from sizes alone: build each setting.
    """
    for name in quantities:
        if name not in FORMULAS:
            raise UnknownNameError("quantity", name, FORMULAS)
    timed = [name for name in quantities if name not in EXACT]
    if timed and rates is None:
        raise SettingError(f"{timed[0]} needs the rates of a calibration")
    for name in settings:
        subject.check_accepts(name)
    columns = {name: one if isinstance(one, Choice) else column_of(one) for name, one in settings.items()}
    sizes = {name: len(one.codes if isinstance(one, Choice) else one) for name, one in columns.items()}
    if len(set(sizes.values())) > 1:
        raise SettingError(f"the settings' columns must be of one length, not {sizes}")
    size = next(iter(sizes.values()), 1)
    own = subject.shape
    shape = own if batch_size is None else (batch_size, *own[1:])
    found = ManyCosts(size, np.zeros(size, dtype=bool), {}, subject, columns)
    asked = [name for name in FORMULAS if name in quantities]
    _Walker(subject, columns, asked, lambda model: Drawn(model, shape, optimiser, rates), found).run()
    return found


class _Walker:
    def __init__(
        self, subject: Subject, columns: Mapping[str, Column], asked: Sequence[str],
        drawn: Callable[[nn.Module], Drawn], found: ManyCosts,
    ) -> None:  # fmt: skip
        self._subject, self._columns, self._asked = subject, columns, asked
        self._drawn, self._found = drawn, found
        self._refused_alike: set[str] = set()

    def run(self) -> None:
        """Walk all settings, in as many parts as it takes."""
        left = [(part, choices) for part, choices in _by_choice(self._columns, self._found.size) if len(part)]
        while left:
            if self._found.walks >= _MOST_WALKS:
                raise NotTogether(
                    f"{self._subject.name}: its code treats {_MOST_WALKS:,} parts of the settings differently"
                )
            part, choices = left.pop()
            for inner in self._walked(part, choices):
                left.append((part[inner], choices))

    def _walked(self, part: Integers, choices: Mapping[str, Any]) -> Sequence[Integers]:
        """Walk settings once: nothing is left, or the parts that they have to be walked in."""
        self._found.walks += 1
        numbers = {name: one[part] for name, one in self._columns.items() if name not in choices}  # type: ignore[index]
        columns = Columns(numbers)
        arguments = {name: choices[name] if name in choices else columns.given[name] for name in self._columns}
        try:
            amounts = self._asked_of(arguments)
            arrays = {
                name: amount if isinstance(amount, str) else values_of(amount, len(part))
                for name, amount in amounts.items()
            }
        except STOPPED:
            raise
        except BaseException as error:
            if columns.split is not None:
                if isinstance(columns.split, TooManyAnswers):
                    raise NotTogether(f"{self._subject.name}: {columns.split}") from None
                return columns.split.parts
            self._refused(part, error)
            return ()
        self._check(part, arrays)
        self._found.possible[part] = True
        for name, values in arrays.items():
            if isinstance(values, str):
                self._found.unstated.setdefault(name, []).append((part, values))
            self._write(name, part, 0 if isinstance(values, str) else values)
        return ()

    def _asked_of(self, arguments: Mapping[str, Any]) -> dict[str, Whole | str]:
        subject = self._subject.with_arguments(arguments)
        amounts: dict[str, Whole | str] = {}
        with drawing():
            model = subject.build_to_count()
            with subject.guarded():
                drawn = self._drawn(model)
                trace(model, drawn.shape)  # what it refuses is refused, whatever is asked
                for name in self._asked:
                    try:
                        amounts[name] = FORMULAS[name](drawn)
                    except SettingError as error:
                        amounts[name] = str(error)
        return amounts

    def _refused(self, part: Integers, error: BaseException) -> None:
        """Settings of which one cannot be built; the code took the same way for all of them."""
        where = f"{self._subject.name} cannot be walked for many settings at once"
        if not isinstance(error, (E4ProfileError, Undrawable)):
            raise NotTogether(f"{where}: {type(error).__name__}: {error}") from error
        # a way is refused because the build refuses it, which is tried once for each sentence
        sentence = re.sub(r"\d+", "#", str(error))
        if isinstance(error, Undrawable) or sentence not in self._refused_alike:
            if refusal_of(self._subject.with_arguments(setting_of(self._columns, int(part[0])))) is None:
                raise NotTogether(f"{where}: {error}") from error
            self._refused_alike.add(sentence)
        self._found.refusals.append(part)

    def _check(self, part: Integers, arrays: Mapping[str, Any]) -> None:
        """Hold two settings against the networks built for them, where the code is not ours."""
        if self._subject.costed_whole:
            return
        for index in {0, len(part) - 1}:
            setting = setting_of(self._columns, int(part[index]))
            subject = self._subject.with_arguments(setting)
            with subject.guarded():
                built = self._drawn(subject.build_to_count())
                for name, values in arrays.items():
                    if isinstance(values, str):
                        continue
                    own, amount = FORMULAS[name](built), values[index]
                    if not (isclose(own, amount, rel_tol=1e-9) if name.endswith("_s") else own == amount):
                        raise NotTogether(
                            f"{self._subject.name}: {name} of many settings at once is {amount:,}, but the "
                            f"network built with {described(setting)} has {own:,}"
                        )

    def _write(self, name: str, part: Integers, values: Integers | int) -> None:
        quantities = self._found.quantities
        if name not in quantities:
            quantities[name] = np.zeros(self._found.size, dtype=np.float64 if name.endswith("_s") else np.int64)
        wide = not isinstance(values, int) and values.dtype == object and any(abs(value) >= 2**63 for value in values)
        if wide:
            quantities[name] = quantities[name].astype(object)
        quantities[name][part] = values


def _by_choice(columns: Mapping[str, Column], size: int) -> list[tuple[Integers, dict[str, Any]]]:
    """The settings by what they choose among values that are no whole numbers."""
    parts: list[tuple[Integers, dict[str, Any]]] = [(np.arange(size), {})]
    for name, column in columns.items():
        if not isinstance(column, Choice):
            continue
        split = []
        for part, choices in parts:
            codes = column.codes[part]
            split += [(part[codes == code], {**choices, name: value}) for code, value in enumerate(column.values)]
        parts = split
    return parts
