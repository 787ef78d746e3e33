"""Forward passes of several networks sampled in turn, each on its own inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from e4profile.errors import E4ProfileError, SettingError
from e4profile.subjects.as_found import as_found, random_state_kept, set_mode
from e4profile.subjects.copies import copied
from e4profile.subjects.inputs import Example
from e4profile.subjects.refusals import refuse_unrun
from e4profile.subjects.subject import Subject
from e4profile.witnesses.timing.clock import MeasurementError, Work
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.passes import device_named, fixed_threads
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import relative_noise

_BRIEF = 0.25


@dataclass(frozen=True)
class ForwardInTurn:
    """A timer of forward passes in evaluation mode, without gradients.

    Attributes:
        device: ``cpu`` or ``cuda``.
        max_run_time_s: per network; a brief measurement takes a quarter of it.
        threads: intra-operator threads; None keeps what is set.

    Raises:
        SettingError: for a device that is not there, or a time that no sampling can take.
    """

    device: str = "cpu"
    max_run_time_s: float = 2.0
    threads: int | None = 1

    def __post_init__(self) -> None:
        device_named(self.device)
        if not 0 < self.max_run_time_s < math.inf:
            raise SettingError(f"max_run_time_s (={self.max_run_time_s:g}) must be positive")

    def __call__(self, subjects: Sequence[Subject], *, brief: bool = False) -> list[Samples]:
        """Samples per network, paired by round.

        Raises:
            UserCodeError: for what a user-defined model raises.
            MeasurementError: for a network that torch cannot run here.
        """
        where = device_named(self.device)
        with ExitStack() as stack:
            stack.enter_context(fixed_threads(self.threads))
            stack.enter_context(random_state_kept())
            works = []
            for subject in subjects:
                with subject.guarded():
                    network = subject.build(str(where))
                    stack.enter_context(as_found(network))
                    twin = copied(network)
                    set_mode(twin, training=False)
                    works.append(Work(_forward(twin, subject.example(str(where)))))
            # what somebody's file sets in the process holds while it is timed
            for subject in {one.name.rpartition(":")[0]: one for one in subjects}.values():
                stack.enter_context(subject.guarded())
            try:
                return collect(works, clock_for(where), self._rule(len(works), brief=brief), noise=_worst)
            except E4ProfileError:
                raise
            except RuntimeError as error:
                reason = (str(error).splitlines() or [""])[0]
                raise MeasurementError(f"{subjects[0].name} cannot run on {self.device}: {reason}") from error

    def _rule(self, networks: int, *, brief: bool) -> StopRule:
        longest = self.max_run_time_s * networks * (_BRIEF if brief else 1)
        return StopRule(min_run_time_s=min(0.2 * networks, longest), max_run_time_s=longest)


def _forward(network: nn.Module, example: Example) -> Callable[[Any], Any]:
    def forward(_: Any) -> Any:
        with torch.no_grad():
            return network(*example.positional, **example.keywords)

    refuse_unrun(forward(None))
    return forward


def _worst(kept: Sequence[Sequence[float]]) -> float:
    return max(relative_noise(one) for one in kept)
