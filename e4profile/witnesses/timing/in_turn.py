"""Forward passes of several networks sampled in turn: cards, and models of one's own with all their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from e4profile.errors import E4ProfileError, SettingError
from e4profile.networks.cards import Card
from e4profile.subjects.as_found import random_state_kept, refuse_unrun
from e4profile.subjects.subject import Subject, guarded
from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import device_named, fixed_threads
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import relative_noise

_BRIEF = 0.25


@dataclass(frozen=True)
class ForwardInTurn:
    """A timer of forward passes in evaluation mode, without gradients, on one thread.

    Attributes:
        device: ``cpu`` or ``cuda``.
        batch_size: images, for cards; models of one's own are called with their own inputs.
        max_run_time_s: per network; a brief measurement takes a quarter of it.

    Raises:
        SettingError: for a device that is not there, or a time that no sampling can take.
    """

    device: str = "cpu"
    batch_size: int = 1
    max_run_time_s: float = 2.0

    def __post_init__(self) -> None:
        device_named(self.device)
        if not 0 < self.max_run_time_s < math.inf:
            raise SettingError(f"max_run_time_s (={self.max_run_time_s:g}) must be positive")

    def __call__(self, subjects: Sequence[Subject], *, brief: bool = False) -> list[Samples]:
        """Samples per network, paired by round.

        Raises:
            UserCodeError: for what a model of one's own raises.
            MeasurementError: for a card's network that torch cannot run here.
        """
        where = device_named(self.device)
        with ExitStack() as stack:
            stack.enter_context(fixed_threads(1))
            stack.enter_context(random_state_kept())
            works = []
            for subject in subjects:
                with guarded(subject):
                    works.append(Work(self._forward(subject, where)))
            # what a file of one's own sets in the process holds while it is timed
            for subject in {one.name.rpartition(":")[0]: one for one in subjects}.values():
                stack.enter_context(guarded(subject))
            try:
                return collect(works, clock_for(where), self._rule(len(works), brief=brief), noise=_worst)
            except E4ProfileError:
                raise
            except RuntimeError as error:
                if not all(isinstance(subject, Card) for subject in subjects):
                    raise
                reason = (str(error).splitlines() or [""])[0]
                raise MeasurementError(f"{subjects[0].name} cannot run on {self.device}: {reason}") from error

    def _rule(self, networks: int, *, brief: bool) -> StopRule:
        longest = self.max_run_time_s * networks * (_BRIEF if brief else 1)
        return StopRule(min_run_time_s=min(0.2 * networks, longest), max_run_time_s=longest)

    def _forward(self, subject: Subject, where: torch.device) -> Callable[[Any], Any]:
        network = subject.build("cpu").to(where)
        if isinstance(subject, Card):
            generator = torch.Generator().manual_seed(0)
            images = torch.randn(subject.input_shape(self.batch_size), generator=generator).to(where)
            positional: tuple[Any, ...] = (images,)
            keywords: dict[str, Any] = {}
        else:
            example = subject.example(str(where))
            positional, keywords = example.positional, dict(example.keywords)

        def forward(_: Any) -> Any:
            with torch.no_grad():
                return network(*positional, **keywords)

        refuse_unrun(forward(None))
        return forward


def _worst(kept: Sequence[Sequence[float]]) -> float:
    return max(relative_noise(one) for one in kept)
