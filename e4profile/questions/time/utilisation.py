"""How much of a device a pass uses: its MACs per second as a share of the measured peak of a matrix product (MFU)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from e4profile.errors import E4ProfileError, SettingError, some_of

if TYPE_CHECKING:
    from e4profile.subjects.subject import Subject
    from e4profile.witnesses.timing.passes import PassSetting
    from e4profile.witnesses.timing.samples import TimeRecord


def with_peak(record: TimeRecord, card: Subject, choice: PassSetting) -> tuple[TimeRecord, str]:
    """The record with the MACs of its pass and the device's measured peak, or as it is with the reason."""
    from e4profile.witnesses.timing.peaks import cached_peaks

    try:
        macs = pass_macs(card, choice)
        peaks = cached_peaks(choice.device, choice.dtype, threads=choice.threads)
    except (E4ProfileError, RuntimeError) as error:
        return record, f"{card.full_name}: MFU is not stated: {error}"
    return replace(record, macs=macs, peak_macs_per_s=peaks.macs_per_s), ""


def pass_macs(card: Subject, choice: PassSetting) -> int:
    """MACs of a pass: of forward, of backward, or of both for a step; from the closed form, else from what runs.

    By the closed form what backward computes again to save memory is no use of the device and does not count.

    Raises:
        SettingError: where operators run that have no cost: a share of a lower bound proves nothing.
        UserCodeError: for what a user-defined model raises.
    """
    import torch

    from e4profile.witnesses.counts.closed_form import training_step_macs
    from e4profile.witnesses.counts.recorded import counted_macs
    from e4profile.witnesses.counts.training_step import count_training_step

    batch = choice.batch_size
    model = card.build_whole()
    with card.guarded(batch):
        if card.input is not None:
            with suppress(SettingError):
                cost = training_step_macs(model, (batch or 1, *card.input))
                return _of_pass(choice.pass_, cost.forward, cost.backward)
        if choice.pass_ == "forward":
            counted, _ = counted_macs(model, card.batched.at(batch, torch.float32))
            forward, backward, unknown = counted.macs, 0, counted.uncounted
        else:
            step = count_training_step(model, card.batched, batch, choice.loss)
            forward, backward, unknown = step.forward, step.backward, step.unknown
    if unknown:
        raise SettingError(f"operators without a cost run: {some_of(list(unknown))}")
    return _of_pass(choice.pass_, forward, backward)


def _of_pass(pass_: str, forward: int, backward: int) -> int:
    return {"forward": forward, "backward": backward, "step": forward + backward}[pass_]
