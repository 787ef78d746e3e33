"""The memory of a training step against the batch size: what is constant, what grows, and the peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e4profile.cards import Card
from e4profile.memory import predict

_DEFAULT_MODELS = ("p4-cnn", "p4-r18", "p4m-r18", "e4net", "p4-e4r18", "p4m-e4r18")
BATCH_SIZES = (2, 8, 32, 128, 512)
"""From two images on: a batch norm over single values refuses one."""


def default_models() -> tuple[str, ...]:
    """Three group-convolutional networks of He et al. 2021, then the E4 networks in their place."""
    return _DEFAULT_MODELS


def memory_rows(cards: Sequence[Card], batch_sizes: Sequence[int] = BATCH_SIZES) -> list[dict[str, Any]]:
    """One row per network and batch size, in float32, as PyTorch's own bookkeeping has it; nothing is allocated.

    ``constant_bytes`` and ``growing_bytes`` are kept between forward and backward, ``peak_bytes`` is the most that
    both passes hold at once beyond parameters, buffers and input.
    """
    rows = []
    for card in cards:
        model = card.build("meta")
        for batch_size in batch_sizes:
            step = predict(model, card.input, batch_size)
            rows.append(
                {
                    "model": card.name,
                    "batch_size": batch_size,
                    "constant_bytes": step.saved_constant_bytes,
                    "growing_bytes": step.saved_bytes - step.saved_constant_bytes,
                    "peak_bytes": step.peak_bytes,
                }
            )
    return rows
