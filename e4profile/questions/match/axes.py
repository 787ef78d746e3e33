"""The settings that a match chooses among, and the search for those around a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from e4profile.errors import SettingError, UnknownNameError
from e4profile.subjects.subject import Subject
from e4profile.subjects.written import Varied, parse_varied

VARIED = ("width", "reduction", "slices", "channels_per_slice", "kernel")
"""What can be varied without saying by which values, where arguments mean what they do in layers."""

_DIVISORS = ("reduction", "slices", "channels_per_slice")
_ALL_TRIED = 64
_GAP = 512
_GAP_OF_RUNS = 128
_LARGEST = 2**24
_LARGEST_RUN = 2**16

Cost = Callable[[int], "int | float | None"]


@dataclass(frozen=True)
class Axis:
    """What is varied: candidates are numbered from 1, ``setting`` gives the arguments of a number.

    Raises:
        UnknownNameError: for an argument that cannot be varied, or that the network does not take.
        SettingError: for one that the network does not take, or that is not a whole number and has no values given.
    """

    subject: Subject
    vary: str

    def __post_init__(self) -> None:
        name, given = self._varied.name, self._varied.given
        if self.subject.arguments_as_in_layers:
            if given is None and name not in VARIED:
                if self.subject.accepts(name):
                    values = "A,B" if isinstance(self.subject.argument(name), (str, bool)) else "1..8"
                    example = f"for example --vary {name}={values}"
                    raise SettingError(f"--vary {name}: say which values it may take, {example}")
                raise UnknownNameError("axis", name, VARIED)
            if not self.subject.accepts(self._argument):
                takes = [one for one in VARIED if Axis.exists(self.subject, one)]
                raise SettingError(f"{self.subject.name} takes no {name}; vary {', '.join(takes)}")
            return
        self.subject.check_accepts(name)
        now = self.subject.argument(name)
        if given is None and now is not None and (isinstance(now, bool) or not isinstance(now, int)):
            raise SettingError(
                f"{self.subject.name}: {name} (={now!r}) is not a whole number: say which values it may take, for "
                f"example --vary {name}=A,B"
            )

    @cached_property
    def _varied(self) -> Varied:
        return parse_varied(self.vary)

    @property
    def name(self) -> str:
        """Of the argument that is varied."""
        return self._varied.name

    @staticmethod
    def exists(subject: Subject, vary: str) -> bool:
        """Whether a network takes this axis."""
        return subject.accepts(vary) or (vary == "width" and subject.accepts("widths"))

    @property
    def _argument(self) -> str:
        name = self._varied.name
        scaled = name == "width" and self.subject.arguments_as_in_layers and not self.subject.accepts("width")
        return "widths" if scaled else name

    @property
    def enumerated(self) -> bool:
        """Whether every candidate is tried: few are given, or cost may fall along them."""
        if self._varied.values is not None:
            return True
        if self._varied.span is not None:
            return len(self._varied.span) <= _ALL_TRIED
        return self.subject.arguments_as_in_layers and self.name in _DIVISORS

    def setting(self, index: int) -> dict[str, Any]:
        """The arguments of candidate ``index``; several widths grow in the network's own proportion."""
        given = self._varied.given
        value = index if given is None else given[index - 1]
        if not self.subject.arguments_as_in_layers:
            return {self.name: value}
        if self.name == "kernel" and given is None:
            return {"kernel": 2 * index - 1}
        if self._argument == "widths" and not isinstance(value, list):
            widths = self.subject.argument("widths")
            first = widths[0]
            return {"widths": [(2 * value * width + first) // (2 * first) for width in widths]}
        return {self._argument: value}

    def indices(self) -> list[int]:
        """Every candidate of an enumerated axis: the values given, or the divisors of the width."""
        given = self._varied.given
        if given is not None:
            return list(range(1, len(given) + 1))
        width = self.subject.argument("width")
        if not isinstance(width, int):
            raise SettingError(f"{self.subject.name} has no single width that {self.name} could divide")
        return [index for index in range(1, width + 1) if width % index == 0]

    @property
    def last(self) -> int | None:
        """The last candidate there is; None where there is no end."""
        given = self._varied.given
        return None if given is None else len(given)

    @property
    def largest(self) -> int:
        """Where the search gives up: further where counting a candidate needs no run."""
        return self.last or (_LARGEST if self.subject.costed_whole else _LARGEST_RUN)

    @property
    def gap(self) -> int:
        """How many candidates in a row may be refused before the search gives up."""
        return _GAP if self.subject.costed_whole else _GAP_OF_RUNS


def falls(cost: Cost, *, last: int | None = None, gap: int = _GAP) -> bool:
    """Whether the second candidate that can be built costs less than the first."""
    first = _first(cost, _up(1, last, gap))
    second = None if first is None else _first(cost, _up(first + 1, last, gap))
    return first is not None and second is not None and _known(cost, second) < _known(cost, first)


def bracket(
    cost: Cost, target: int | float, largest_index: int = _LARGEST, *, last: int | None = None, gap: int = _GAP
) -> list[int]:
    """Up to four neighbouring candidates around a target, for a cost that grows with its index.

    Doubling finds an upper end and bisection the place; a candidate that cannot be built is passed over.

    Args:
        cost: of a candidate, None where it cannot be built.
        target: the cost to come near to.
        largest_index: where to give up.
        last: the last candidate there is; None where there is no end.
        gap: how many in a row may be passed over.

    Returns:
        The candidates in order, the nearest one among them with a neighbour on either side where there is one;
        none when no candidate can be built or none up to ``largest_index`` reaches the target.
    """
    low = _first(cost, _up(1, last, gap))
    if low is None:
        return []
    high: int | None = low
    while high is not None and _known(cost, high) < target:
        if last is None and high > largest_index:
            return []
        low, high = high, _further(cost, high, last, gap)
    if high is None:
        # the largest candidate lies below the target
        high = low
    while high - low > 1:
        middle = (low + high) // 2
        between = _first(cost, range(middle, high)) or _first(cost, range(middle - 1, low, -1))
        if between is None:
            break
        if _known(cost, between) < target:
            low = between
        else:
            high = between
    before = _first(cost, range(low - 1, max(0, low - gap), -1))
    after = _first(cost, _up(high + 1, last, gap))
    return sorted({index for index in (before, low, high, after) if index is not None})


def _further(cost: Cost, high: int, last: int | None, gap: int) -> int | None:
    if last is None or 2 * high <= last:
        return _first(cost, _up(2 * high, last, gap)) or _first(cost, _up(high + 1, last, gap))
    return _first(cost, range(last, max(high, last - gap), -1)) or _first(cost, _up(high + 1, last, gap))


def _up(start: int, last: int | None, gap: int) -> range:
    return range(start, start + gap if last is None else min(start + gap, last + 1))


def _first(cost: Cost, indices: Iterable[int]) -> int | None:
    return next((index for index in indices if cost(index) is not None), None)


def _known(cost: Cost, index: int) -> int | float:
    value = cost(index)
    assert value is not None
    return value
