"""The memory of a training step against the batch size: what is constant, what grows, and the peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.errors import SettingError
from e4profile.networks.cards import Card
from e4profile.questions.plot.registry import drawn_name
from e4profile.subjects.subject import Subject, Target
from e4profile.subjects.variants import VariantCounter, built_whole
from e4profile.witnesses.memory import StepMemory, predict

_DEFAULT_MODELS = ("p4-cnn", "p4-r18", "p4m-r18", "e4net", "p4-e4r18", "p4m-e4r18")
BATCH_SIZES = (2, 8, 32, 128, 512)
"""From two images on: a batch norm over single values refuses one."""


def default_models() -> tuple[str, ...]:
    """Three group-convolutional networks of He et al. 2021, then the E4 networks in their place."""
    return _DEFAULT_MODELS


def memory_rows(networks: Sequence[Subject], batch_sizes: Sequence[int] = BATCH_SIZES) -> list[dict[str, Any]]:
    """One row per network and batch size, in float32, as PyTorch's own bookkeeping has it; nothing is allocated.

    ``constant_bytes`` and ``growing_bytes`` are kept between forward and backward, ``peak_bytes`` is the most that
    both passes hold at once beyond parameters, buffers and input.

    Raises:
        SettingError: for inputs of one's own model whose leading sizes are no batch.
        UserCodeError: for what a model of one's own raises.
    """
    return [
        {
            "model": drawn_name(network),
            "batch_size": step.batch_size,
            "constant_bytes": step.saved_constant_bytes,
            "growing_bytes": step.saved_bytes - step.saved_constant_bytes,
            "peak_bytes": step.peak_bytes,
        }
        for network in networks
        for step in _steps(network, batch_sizes)
    ]


def _steps(network: Subject, batch_sizes: Sequence[int]) -> list[StepMemory]:
    if isinstance(network, Card):
        model = network.build("meta")
        return [predict(model, network.input, batch_size) for batch_size in batch_sizes]
    if network.own_batch is None:
        given = " ".join(map(str, network.specs))
        raise SettingError(f"{network.name}: the inputs ({given}) must lead with one batch, which the figure varies")

    def predicted(target: Target) -> list[StepMemory]:
        own = built_whole(target)
        with target.guarded():
            return [predict(own, target.batched, batch_size, loss="auto") for batch_size in batch_sizes]

    found: list[StepMemory] = VariantCounter().model_on_meta(network, predicted)
    return found
