"""Where the time goes: each named term's share of time next to its share of MACs."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from e4profile.conventions import MAC_KINDS
from e4profile.errors import SettingError, positive
from e4profile.layers.base import Shape
from e4profile.layers.containers import trace
from e4profile.subjects.batches import ModelInputs
from e4profile.subjects.inputs import Example
from e4profile.witnesses.counts.recorded import CLOSED_FORM, DISPATCH, counted_macs
from e4profile.witnesses.timing.clock import Clock
from e4profile.witnesses.timing.measure import clock_for
from e4profile.witnesses.timing.operators import TERMS, term_of_kind, term_of_macs
from e4profile.witnesses.timing.passes import PassSetting, device_named, prepared
from e4profile.witnesses.timing.profiled import profile_passes, time_by_term
from e4profile.witnesses.timing.samples import Samples, StopRule, collect
from e4profile.witnesses.timing.statistics import quartiles


@dataclass(frozen=True)
class TermShare:
    """One named term.

    Attributes:
        term: one of ``TERMS``.
        seconds: of one pass under the profiler.
        time_share: of the pass's time.
        macs: of one forward pass.
        mac_share: of the forward pass's MACs.
        share_quartiles: between which half of the passes have ``time_share``; None where they are not known.
    """

    term: str
    seconds: float
    time_share: float
    macs: int
    mac_share: float
    share_quartiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class Breakdown:
    """One pass, term by term; ``terms`` and ``unattributed_s`` add up to ``total_s``.

    Attributes:
        name: of the network.
        pass_: ``forward``, ``backward`` or ``step``.
        mode: ``eval`` or ``train``.
        input_shape: (B, channels, h, w), or that of the first tensor of several inputs.
        terms: in the order of ``TERMS``; those with neither time nor MACs are left out.
        unattributed_s: between operators: Python and hooks; on a device also its idle time.
        total_s: of one pass under the profiler, which slows small operators down.
        passes: how many were profiled; the times are their mean.
        whole: samples of the pass without the profiler.
        witness: what gave the MACs: ``closed form``, or ``dispatch`` for a network without one.
        notes: what a reader must know, a sentence each.
    """

    name: str
    pass_: str
    mode: str
    input_shape: Shape
    terms: tuple[TermShare, ...]
    unattributed_s: float
    total_s: float
    passes: int
    whole: Samples
    witness: str = CLOSED_FORM
    notes: tuple[str, ...] = ()

    @property
    def unattributed_share(self) -> float:
        """Of the pass's time."""
        return self.unattributed_s / self.total_s


def macs_by_term(model: nn.Module, input_shape: Shape) -> dict[str, int]:
    """Forward MACs of the batch by term, from the closed form; expanding filters costs none.

    Raises:
        SettingError: for a part without a closed form.
    """
    _, steps = trace(model, input_shape)
    found: Counter[str] = Counter()
    for step in steps:
        cost = step.cost
        for name, macs in cost.macs.items():
            kind = cost.kinds[name]
            if kind in MAC_KINDS and macs:
                found[term_of_macs(step.module, name, kind)] += macs
    return dict(found)


def macs_by_witness(model: nn.Module, example: Example) -> tuple[dict[str, int], str, tuple[str, ...]]:
    """Forward MACs by term from the closed form, or from what runs where there is none.

    Returns:
        The MACs by term; ``closed form`` or ``dispatch``; and what a reader must know.

    Raises:
        Whatever the model's forward raises.
    """
    shape = example.single_shape
    if shape is not None:
        with suppress(SettingError):
            return macs_by_term(model, shape), CLOSED_FORM, ()
    count, notes = counted_macs(model, example)
    modules = dict(model.named_modules())
    found: Counter[str] = Counter()
    for layer in count.layers:
        parts = layer.path.split(".") if layer.path else []
        around = [modules[".".join(parts[:length])] for length in range(len(parts), -1, -1)]
        for kind, macs in layer.operations.items():
            if kind in MAC_KINDS and macs:
                found[term_of_kind(around, kind)] += macs
    return dict(found), DISPATCH, notes


def measure_breakdown(
    model: nn.Module,
    image_shape: ModelInputs,
    setting: PassSetting | None = None,
    *,
    name: str = "",
    passes: int = 5,
    rule: StopRule | None = None,
    clock: Clock | None = None,
) -> Breakdown:
    """Profile a pass and add up its operators by term; the network is left as it was found.

    Args:
        model: with values.
        image_shape: of one image, (channels, h, w), or other inputs (see ``ModelInputs``).
        setting: how the pass runs.
        name: for the table; the class name when empty.
        passes: how many to profile.
        rule: for the samples without the profiler, which also warm up.
        clock: instead of the device's own.

    Raises:
        MeasurementError: when the pass cannot run.
    """
    positive(passes=passes)
    setting = setting or PassSetting()
    where: torch.device = device_named(setting.device)
    with prepared(model, image_shape, setting) as taken:
        macs, witness, notes = macs_by_witness(taken.network, taken.example)
        shape = taken.input_shape
        whole = collect([taken.work], clock or clock_for(where), rule or StopRule())[0]
        events = profile_passes(taken.network, taken.work, passes, where)
        found = time_by_term(events, dict(taken.network.named_modules()), where.type == "cuda")
    total_macs = sum(macs.values())
    terms = tuple(
        TermShare(
            term,
            found.terms_s.get(term, 0.0) / passes,
            found.terms_s.get(term, 0.0) / found.total_s,
            macs.get(term, 0),
            macs.get(term, 0) / total_macs if total_macs else 0.0,
            quartiles([one.get(term, 0.0) for one in found.shares]),
        )
        for term in TERMS
        if term in found.terms_s or term in macs
    )
    return Breakdown(
        name or type(model).__name__,
        setting.pass_,
        setting.mode,
        shape,
        terms,
        found.unattributed_s / passes,
        found.total_s / passes,
        passes,
        whole,
        witness,
        notes,
    )
