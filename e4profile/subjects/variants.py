"""A card or a model of one's own with other arguments, and what each variant costs.

A card is counted by its closed form. A model of one's own is counted by what one call of it runs, on the meta
device: nothing is allocated, whatever its width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from e4profile.errors import SettingError, UnknownNameError
from e4profile.networks.cards import Card
from e4profile.subjects.subject import Subject, Target

if TYPE_CHECKING:
    from torch import nn

    from e4profile.witnesses.counts.measure import Measurement


def _module_type() -> type[nn.Module]:
    from torch import nn

    return nn.Module


def parameters(subject: Subject) -> Mapping[str, Parameter]:
    """The named arguments of a model of one's own; none for a finished module or a builtin."""
    if isinstance(subject, Card):
        raise SettingError(f"{subject.name} is a card: its topology says what it takes")
    if isinstance(subject.builder, _module_type()):
        return {}
    try:
        found = signature(subject.builder).parameters
    except (TypeError, ValueError):
        return {}
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {name: one for name, one in found.items() if one.kind in named}


def accepts(subject: Subject, argument: str) -> bool:
    """Whether the network's builder takes an argument of this name."""
    if isinstance(subject, Card):
        return subject.accepts(argument)
    if argument in parameters(subject):
        return True
    if isinstance(subject.builder, _module_type()):
        return False
    try:
        found = signature(subject.builder).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.kind is Parameter.VAR_KEYWORD for one in found) and argument.isidentifier()


def argument(subject: Subject, name: str) -> Any:
    """The value of an argument: the given one, else the builder's default; None where neither has one."""
    if isinstance(subject, Card):
        return subject.argument(name)
    if name in subject.arguments:
        return subject.arguments[name]
    known = parameters(subject)
    default = known[name].default if name in known else None
    return None if default is Parameter.empty else default


def check_accepts(subject: Subject, name: str) -> None:
    """Refuse an argument that a network does not take.

    Raises:
        SettingError: for a finished module, which takes none.
        UnknownNameError: with the nearest names.
    """
    if accepts(subject, name):
        return
    if not isinstance(subject, Card):
        known = parameters(subject)
        if not known:
            raise SettingError(f"{subject.name} takes no arguments, so not {name}: name a builder that takes it")
        raise UnknownNameError(f"argument of {subject.name}", name, known)
    subject.with_arguments({name: None})


def changed(subject: Subject, arguments: Mapping[str, Any]) -> Subject:
    """The same network with some arguments replaced; a file of one's own is not imported again.

    Raises:
        UnknownNameError: for an argument that it does not take.
    """
    if isinstance(subject, Card):
        return subject.with_arguments(arguments)
    for name in arguments:
        check_accepts(subject, name)
    return replace(subject, arguments={**subject.arguments, **arguments})


def described(arguments: Mapping[str, Any]) -> str:
    """``width=8, depth=3``."""
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


@dataclass(frozen=True)
class Counted:
    """What a network costs for one call.

    Attributes:
        params: parameters.
        operations: by kind (see ``e4profile.conventions``).
        measured: whether they were counted from what runs, not from a closed form.
        notes: what a reader must know.
    """

    params: int
    operations: Mapping[str, int]
    measured: bool = False
    notes: tuple[str, ...] = ()

    def total(self, convention_name: str = "macs") -> int:
        """Operations under a convention."""
        from e4profile.conventions import convention

        return convention(convention_name).total(self.operations)


@dataclass
class VariantCounter:
    """Counts the variants of networks.

    Attributes:
        lean: whether models of one's own can be built on the meta device; None until one was built at all.
    """

    lean: bool | None = field(default=None)

    def __call__(self, subject: Subject, batch_size: int = 1) -> Counted:
        """The counts of one call.

        Args:
            subject: a card, or a model of one's own, which is called with its own inputs.
            batch_size: images, for a card.

        Raises:
            SettingError: for arguments that the network refuses.
            UserCodeError: for what a model of one's own raises.
        """
        if isinstance(subject, Card):
            from e4profile.witnesses.counts.closed_form import count_closed_form

            count = count_closed_form(subject.build("meta"), subject.input_shape(batch_size))
            return Counted(count.params, count.operations)
        found = self._measured(subject)
        form = {"topology": "its closed form agrees", "recorded": "its layers' closed forms agree where they have one"}
        how = form.get(found.sizes, "it has no closed form") if not found.differences else "its closed form differs"
        unknown = ", ".join(found.dispatch.uncounted)
        notes = (
            f"{subject.name}: counted from what one call runs, on the meta device; {how}",
            *([f"{subject.name}: not counted, unknown operators: {unknown}"] if unknown else []),
        )
        ruled = {kind: n for kind, n in found.closed.operations.items() if kind not in found.dispatch.operations}
        return Counted(found.dispatch.params, {**_beyond_what_runs(ruled), **found.dispatch.operations}, True, notes)

    def _measured(self, target: Target) -> Measurement:
        found: Measurement = self.model_on_meta(target, lambda fresh: fresh.measure(()))
        return found

    def model_on_meta(self, target: Target, use: Any) -> Any:
        """``use`` of the model, built on the meta device where its builder allows, on the CPU otherwise.

        Args:
            target: a model of one's own.
            use: called with a target that holds no network yet; what it builds lies on that device.

        Raises:
            Whatever building or ``use`` raises on the CPU, or on the meta device where earlier variants could be
            built there.
        """
        import torch

        from e4profile.subjects.guest import UserCodeError

        if self.lean is not False:
            try:
                with torch.device("meta"):
                    found = use(replace(target))
            except UserCodeError:
                # a wide network that is refused on the meta device must not be tried in real memory
                if self.lean:
                    raise
            else:
                self.lean = True
                return found
        found = use(replace(target))
        self.lean = False
        return found


def _beyond_what_runs(operations: Mapping[str, int]) -> dict[str, int]:
    from e4profile.witnesses.counts.base import WITNESSED_KINDS

    return {kind: amount for kind, amount in operations.items() if kind not in WITNESSED_KINDS}


def built_whole(target: Target) -> nn.Module:
    """The model of one's own, after a first call where lazy layers wait for one to know their shapes.

    Raises:
        UserCodeError: for what building it or calling it raises.
    """
    import torch
    from torch.nn.parameter import is_lazy

    model = target.build()
    with target.running():
        lazy = [parameter for parameter in model.parameters() if is_lazy(parameter)]
    if lazy:
        example = target.example().map(lambda tensor: tensor.to(lazy[0].device))
        with target.guarded(), torch.no_grad():
            model(*example.positional, **example.keywords)
    return model


def _batch_of(target: Target, batch_size: int | None) -> int | None:
    """None where the leading sizes of the inputs are no batch, so that they stay as they are."""
    return None if target.own_batch is None else batch_size


def peak_bytes(subject: Subject, batch_size: int | None, counter: VariantCounter) -> int:
    """The most bytes that forward and backward hold at once, by allocator emulation on the meta device.

    Raises:
        SettingError: for arguments that a network refuses.
        UserCodeError: for what a model of one's own raises.
    """
    from e4profile.witnesses.memory.peak import allocator_emulation

    if isinstance(subject, Card):
        built = subject.build("meta")
        return allocator_emulation(built, subject.input, batch_size=batch_size or 2, device="meta").peak_bytes

    def emulated(target: Target) -> int:
        model = built_whole(target)
        with target.guarded():
            return allocator_emulation(
                model, target.batched, batch_size=_batch_of(target, batch_size), loss="auto", device="meta"
            ).peak_bytes

    found: int = counter.model_on_meta(subject, emulated)
    return found


def step_bytes(subject: Subject, batch_size: int, optimiser: str, counter: VariantCounter) -> int:
    """The predicted bytes of a training step: parameters, gradients, optimiser state, buffers, input and peak.

    Raises:
        SettingError: for a network without class scores, or arguments that it refuses.
        UserCodeError: for what a model of one's own raises.
    """
    from e4profile.witnesses.memory.step import predict

    if isinstance(subject, Card):
        return predict(subject.build("meta"), subject.input, batch_size, optimiser=optimiser).step_bytes

    def predicted(target: Target) -> int:
        model = built_whole(target)
        with target.guarded():
            batch = _batch_of(target, batch_size)
            return predict(model, target.batched, batch, optimiser=optimiser, loss="auto").step_bytes

    found: int = counter.model_on_meta(subject, predicted)
    return found
