"""What each of many variants of a network costs, whatever its width, without the memory that it would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch

from e4profile.conventions import convention
from e4profile.errors import SettingError, some_of
from e4profile.subjects.guest import UserCodeError
from e4profile.subjects.subject import Subject
from e4profile.witnesses.counts.base import SAY_THE_COST, WITNESSED_KINDS, added
from e4profile.witnesses.counts.closed_form import count_closed_form
from e4profile.witnesses.counts.measure import measure
from e4profile.witnesses.memory.peak import allocator_emulation, forward_emulation
from e4profile.witnesses.memory.step import predict_step_bytes

Found = TypeVar("Found")


@dataclass(frozen=True)
class Counted:
    """What a network costs for one call.

    Attributes:
        params: parameters.
        operations: by kind (see ``e4profile.conventions``).
        notes: what a reader must know.
        unknown: operators that ran and could not be counted: with any, the operations are lower bounds.
        elements: what runs element by element, by kind; empty where the closed form alone was asked.
    """

    params: int
    operations: Mapping[str, int]
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    elements: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal costs."""
        return (self.params, *sorted(self.operations.items()))

    def total(self, convention_name: str = "macs") -> int:
        """Operations under a convention, those element by element included."""
        return convention(convention_name).total({**self.elements, **self.operations})


@dataclass
class VariantCounter:
    """Counts the variants of networks: by the closed form where it is promised, else from what one call runs.

    Attributes:
        lean: by builder, whether what it builds can lie on the meta device; unknown until one was built at all.
        elements: whether what runs element by element is asked for, which needs a run of every network.
    """

    lean: dict[str, bool] = field(default_factory=dict)
    elements: bool = False

    def __call__(self, subject: Subject) -> Counted:
        """The counts of one call on the network's inputs.

        Raises:
            SettingError: for arguments that the network refuses.
            UserCodeError: for what a user-defined model raises.
        """
        shape = subject.example("meta").single_shape if subject.costed_whole else None
        if shape is not None and not self.elements:
            count = count_closed_form(subject.build("meta"), shape)
            return Counted(count.params, count.operations)
        found = self.on_meta(subject, lambda fresh: measure(fresh, ()))
        form = {"topology": "its closed form agrees", "recorded": "its layers' closed forms agree where they have one"}
        how = form.get(found.sizes, "it has no closed form") if not found.differences else "its closed form differs"
        unknown = tuple(found.dispatch.uncounted)
        notes = (
            f"{subject.name}: counted from what one call runs, on the meta device; {how}",
            *([f"{subject.name}: not counted, unknown operators: {', '.join(unknown)}"] if unknown else []),
        )
        seen = dict(found.dispatch.operations)
        ruled = {
            kind: n for kind, n in found.closed.operations.items() if kind not in seen and kind not in WITNESSED_KINDS
        }
        operations = {kind: n for kind, n in (ruled | seen).items() if n}
        return Counted(found.dispatch.params, operations, notes, unknown, added(*found.dispatch.elements.values()))

    def exact(self, subject: Subject, unit: str = "MACs", convention_name: str = "macs") -> Counted:
        """The same, where a decision rests on the operations.

        Raises:
            SettingError: for operations that are a lower bound, naming the operators and the remedy.
        """
        counted = self(subject)
        if counted.unknown:
            raise SettingError(
                f"{subject.name}: at least {counted.total(convention_name):,} {unit}, which does not decide it: "
                f"unknown operators {some_of(counted.unknown)}; {SAY_THE_COST}"
            )
        return counted

    def on_meta(self, subject: Subject, use: Callable[[Subject], Found]) -> Found:
        """``use`` of the subject, built on the meta device where its builder allows, on the CPU otherwise.

        Args:
            subject: a network.
            use: called with a subject that holds no network yet; what it builds lies on that device.

        Raises:
            Whatever building or ``use`` raises on the CPU, or on the meta device where an earlier variant could be
            built there.
        """
        known = self.lean.get(subject.topology)
        if known is not False:
            try:
                with torch.device("meta"):
                    found = use(subject.fresh())
            except UserCodeError:
                # a wide network that is refused on the meta device must not be tried in real memory
                if known:
                    raise
            else:
                self.lean[subject.topology] = True
                return found
        found = use(subject.fresh())
        self.lean[subject.topology] = False
        return found


def in_irreps(subject: Subject, macs: int) -> Counted | None:
    """What a network costs with its group convolutions in the irrep basis; None where its MACs are the same.

    The network is built again so, and counted; a user-defined one only where it has such layers.

    Args:
        subject: a network that builds.
        macs: that it runs as it is.

    Raises:
        Whatever building the other network raises.
    """
    if not subject.has_executions:
        return None
    switched = subject.executed("irreps")
    if switched == subject:
        return None
    counted = VariantCounter()(switched)
    return None if counted.total() == macs else counted


def peak_bytes(subject: Subject, batch_size: int | None, counter: VariantCounter) -> int:
    """The most bytes that forward and backward hold at once, by allocator emulation on the meta device.

    Args:
        subject: a network; where the leading sizes of its inputs are no batch, they stay as they are.
        batch_size: images; those of the inputs when None.
        counter: knows which builders can build on the meta device.

    Raises:
        SettingError: for arguments that a network refuses.
        UserCodeError: for what a user-defined model raises.
    """
    emulated = partial(allocator_emulation, loss="auto", device="meta")
    return counter.on_meta(subject, lambda fresh: _called(fresh, batch_size, emulated).peak_bytes)


def forward_peak_bytes(subject: Subject, batch_size: int | None, counter: VariantCounter) -> int:
    """The most bytes that a forward pass in evaluation mode without gradients holds, by the same rules.

    Raises:
        SettingError: for arguments that a network refuses.
        UserCodeError: for what a user-defined model raises.
    """
    emulated = partial(forward_emulation, device="meta")
    return counter.on_meta(subject, lambda fresh: _called(fresh, batch_size, emulated).peak_bytes)


def step_bytes(subject: Subject, batch_size: int, optimiser: str, counter: VariantCounter) -> int:
    """The predicted bytes of a training step: parameters, gradients, optimiser state, buffers, input and peak.

    Raises:
        SettingError: for an output without a loss, or arguments that the network refuses.
        UserCodeError: for what a user-defined model raises.
    """
    predicted = partial(predict_step_bytes, optimiser=optimiser, loss="auto")
    return counter.on_meta(subject, lambda fresh: _called(fresh, batch_size, predicted)[0])


def _called(fresh: Subject, batch_size: int | None, ask: Callable[..., Found]) -> Found:
    """What is asked of the whole network, with its inputs and a batch size where they have a batch."""
    model = fresh.build_whole()
    with fresh.guarded():
        return ask(model, fresh.batched, batch_size=None if fresh.own_batch is None else batch_size)
