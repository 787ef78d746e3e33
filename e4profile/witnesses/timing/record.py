"""One timing: raw samples, setting and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e4profile.witnesses.timing.samples import Samples


@dataclass(frozen=True)
class TimeRecord:
    """How long one pass of one network takes, sample by sample.

    Attributes:
        name: the network's.
        pass_: ``forward``, ``backward`` or ``step`` (see ``PASS_MEANINGS``).
        mode: ``eval`` or ``train``.
        loss: what backward starts from; empty for a forward pass.
        device: ``cpu`` or ``cuda``.
        dtype: of weights and images.
        input_shape: (B, channels, h, w), or that of the first tensor of several inputs.
        compiled: whether ``torch.compile`` was applied.
        graphed: whether CUDA graphs were replayed.
        threads: intra-operator threads.
        clock: what took the samples.
        samples: the samples.
        environment: where it was measured (see ``e4profile.witnesses.environment``).
        arguments: of the network, or of the builder.
        inputs: all of them in words, where there are several; empty for one tensor.
        label: the name with the arguments that were given, for tables; the name where it is not said.
    """

    name: str
    pass_: str
    mode: str
    loss: str
    device: str
    dtype: str
    input_shape: tuple[int, ...]
    compiled: bool
    graphed: bool
    threads: int
    clock: str
    samples: Samples
    environment: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    label: str = ""

    @property
    def title(self) -> str:
        """The label, or the name without one."""
        return self.label or self.name

    @property
    def batch_size(self) -> int:
        """Images per pass."""
        return self.input_shape[0]

    @property
    def median_s(self) -> float:
        """The median in seconds."""
        return self.samples.median_s

    @property
    def iqr_s(self) -> float:
        """The interquartile range in seconds."""
        return self.samples.iqr_s

    @property
    def noisy(self) -> bool:
        """Whether there is a reason not to trust the median to its digits."""
        return self.samples.noisy
