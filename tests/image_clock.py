"""A clock by which each image takes one millisecond, however fast or busy the machine is."""

from __future__ import annotations

from e4profile.witnesses.timing.clock import CpuClock, Reading, Work

IMAGE_S = 1e-3


def read(_: CpuClock, work: Work) -> Reading:
    """In the place of ``CpuClock.read``: the pass runs, and its inputs say what it took."""
    inputs = work.prepare()
    work.call(inputs)
    return Reading(IMAGE_S * inputs.tensors[0].shape[0])
