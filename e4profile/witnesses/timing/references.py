"""The networks that a calibration times: every topology at several widths, groups, kernels and batches.

They are small, so that a minute is enough for all of them several times over. Whatever kind of operator a card can have
is in at least two topologies: layers that one topology alone has are also timed by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from e4profile.layers import AttentiveGroupConv2d, AttentiveLiftingConv2d, Chain
from e4profile.layers.self_attention import GroupSelfAttention2d, LiftingSelfAttention2d
from e4profile.networks import NETWORKS


def _attention(width: int, heads: int, kernel: int) -> nn.Module:
    sizes: dict[str, Any] = {"group": "p4", "heads": heads, "head_channels": 6}
    return Chain(
        lifting=LiftingSelfAttention2d(1, width, kernel, **sizes),
        attention=GroupSelfAttention2d(width, width, kernel, **sizes),
    )


def _attentive(width: int, kernel: int) -> nn.Module:
    return Chain(
        lifting=AttentiveLiftingConv2d(1, width, kernel, group="p4"),
        attentive=AttentiveGroupConv2d(width, width, kernel, group="p4", padding=1),
    )


ALONE: Mapping[str, Callable[..., nn.Module]] = {"attention": _attention, "attentive": _attentive}
"""Layers by themselves that otherwise one topology alone has."""


@dataclass(frozen=True)
class Reference:
    """One network that is timed.

    Attributes:
        topology: see ``e4profile.networks`` and ``ALONE``.
        image: (channels, h, w).
        batch: images per pass.
        arguments: of the topology.
    """

    topology: str
    image: tuple[int, int, int]
    batch: int
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The topology and what distinguishes this one."""
        words = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.topology}({words}), batch of {self.batch}"

    def build(self) -> nn.Module:
        """The network with values."""
        return {**NETWORKS, **ALONE}[self.topology](**self.arguments)


def _of(topology: str, image: tuple[int, int, int], *settings: tuple[int, dict[str, Any]]) -> tuple[Reference, ...]:
    return tuple(Reference(topology, image, batch, arguments) for batch, arguments in settings)


_DIGIT, _DIGIT_SMALL, _PICTURE = (1, 28, 28), (1, 16, 16), (3, 32, 32)

REFERENCES: tuple[Reference, ...] = (
    *_of(
        "p4_cnn", _DIGIT,
        (8, {"group": "p4", "width": 8}), (8, {"group": "p4m", "width": 8}), (4, {"group": "p4", "width": 16}),
        (1, {"group": "p4m", "width": 24}), (1, {"group": "p4", "width": 24}), (2, {"group": "p4", "width": 32}),
        (8, {"group": "p1", "width": 20}), (1, {"group": "p1", "width": 48}),
        (4, {"group": "p4", "width": 16, "execution": "irreps"}),
        (2, {"group": "p4m", "width": 8, "execution": "irreps"}),
    ),
    *_of(
        "rot_mnist", _DIGIT,
        (4, {"group": "p4", "width": 8, "reduction": 1, "kernel": 5}),
        (1, {"group": "p4", "width": 16, "reduction": 2, "kernel": 5}),
        (1, {"group": "p4m", "width": 16, "reduction": 2, "kernel": 3}),
        (1, {"group": "p4", "width": 24, "reduction": 1, "kernel": 7}),
        (8, {"group": "p1", "width": 24, "reduction": 2, "kernel": 5}),
        (2, {"group": "p4", "width": 32, "reduction": 4, "kernel": 3}),
        (4, {"group": "p4", "width": 8, "kernel": 5, "layer": "group"}),
        (1, {"group": "p4", "width": 16, "kernel": 5, "layer": "group"}),
        (1, {"group": "p4m", "width": 16, "kernel": 3, "layer": "group"}),
        (8, {"group": "p1", "width": 24, "kernel": 5, "layer": "group"}),
    ),
    *_of(
        "separable_mnist", _DIGIT,
        (2, {"group": "p4", "width": 8, "kind": "g"}), (1, {"group": "p4", "width": 16, "kind": "gc"}),
        (1, {"group": "p4m", "width": 8, "kind": "g"}), (8, {"group": "p4", "width": 24, "kind": "gc"}),
        (2, {"group": "p4", "width": 24, "kind": "full"}), (8, {"group": "p1", "width": 24, "kind": "c"}),
    ),
    *_of(
        "separable_cifar", _PICTURE,
        (1, {"group": "p1", "widths": (16, 32, 64), "depth": 3}),
        (1, {"group": "p4", "widths": (4, 8, 16), "kind": "g", "depth": 2}),
        (4, {"group": "p4", "widths": (8, 16, 32), "kind": "gc", "depth": 2}),
        (1, {"group": "p4m", "widths": (6, 12, 24), "kind": "gc", "depth": 2}),
    ),
    *_of(
        "basic_resnet", _PICTURE,
        (1, {"group": "p4", "width": 8}), (2, {"group": "p4", "width": 12}), (1, {"group": "p4m", "width": 8}),
        (2, {"group": "p1", "width": 32}), (1, {"group": "p1", "width": 64}),
        (1, {"group": "p4", "width": 8, "layer": "e4", "reduction": 1}),
        (2, {"group": "p4", "width": 12, "layer": "e4", "reduction": 2}),
        (1, {"group": "p4m", "width": 8, "layer": "e4", "reduction": 2}),
        (1, {"group": "p4", "width": 12, "execution": "irreps"}),
        (1, {"group": "p4m", "width": 4, "execution": "irreps"}),
        (1, {"group": "p4", "width": 12, "layer": "e4", "reduction": 2, "execution": "irreps"}),
    ),
    *_of(
        "steerable_resnet", (3, 64, 64),
        (1, {"group": "C4", "width": 8}), (2, {"group": "D4", "width": 4}), (2, {"group": "p1", "width": 16}),
        (1, {"group": "p1", "width": 64}), (1, {"group": "C4", "width": 4, "depth": 50}),
        (1, {"group": "p1", "width": 32, "depth": 50}),
    ),
    *_of("basic_cnn", _DIGIT, (1, {"width": 16}), (4, {"width": 32}), (8, {"width": 8})),
    *_of("implicit_vgg", _PICTURE, (1, {"width": 16}), (2, {"width": 32})),
    *_of("implicit_resnet18", _PICTURE, (1, {"width": 16}), (2, {"width": 32})),
    *_of("alpha_p4_cnn", _DIGIT, (1, {"width": 4}), (1, {"width": 8}), (2, {"width": 4})),
    *_of(
        "p4_sa", _DIGIT_SMALL,
        (1, {"width": 10, "heads": 4, "crops": (1, 0, 1, 1, 1)}), (1, {"width": 20, "heads": 2, "crops": (1, 1)}),
        (2, {"width": 12, "heads": 6, "crops": (2, 1)}),
    ),
    *_of(
        "attention", (1, 12, 12),
        (1, {"width": 8, "heads": 3, "kernel": 3}), (2, {"width": 12, "heads": 6, "kernel": 5}),
        (1, {"width": 16, "heads": 9, "kernel": 5}),
    ),
    *_of("attentive", (1, 14, 14), (1, {"width": 6, "kernel": 3}), (2, {"width": 4, "kernel": 5})),
)  # fmt: skip
"""The networks of a calibration."""

QUICK: tuple[Reference, ...] = (
    *_of("p4_cnn", _DIGIT, (1, {"group": "p4", "width": 2}), (2, {"group": "p4", "width": 3})),
    *_of("separable_mnist", _DIGIT, (1, {"group": "p4", "width": 2}), (2, {"group": "p4", "width": 3})),
    *_of("rot_mnist", _DIGIT_SMALL, (1, {"group": "p4", "width": 2, "kernel": 3})),
)
"""A few, for a look at what a calibration is; its error says how little it knows."""
