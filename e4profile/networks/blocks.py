"""What every topology shares: plain torch layers for the trivial group, field layers otherwise, and stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Literal

from torch import nn

from e4profile.errors import SettingError
from e4profile.groups import FiniteGroup
from e4profile.layers import (
    Chain,
    E4Conv2d,
    FieldBatchNorm2d,
    GroupConv2d,
    GroupMaxPool,
    LiftingConv2d,
    Residual,
    set_execution,
)
from e4profile.layers.execution import EXECUTIONS

StrideBy = Literal["conv", "max_pool"]
MixingLayer = Literal["e4", "group"]


@dataclass(frozen=True)
class Parts:
    """The layers of a topology over one group.

    For the trivial group they are torch's own, as the plain networks of the literature are written, so that stock
    counters see what they would see there.
    """

    group: FiniteGroup

    def convolution(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = False,
        stride_by: StrideBy = "conv",
    ) -> nn.Module:  # fmt: skip
        """A convolution between feature maps."""
        if self.group.order == 1:
            return nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias)
        return GroupConv2d(
            c_in, c_out, kernel, group=self.group, stride=stride, padding=padding, bias=bias, stride_by=stride_by
        )

    def lifting(self, c_in: int, c_out: int, kernel: int, *, padding: int = 0, bias: bool = False) -> nn.Module:
        """A convolution from an image to feature maps."""
        if self.group.order == 1:
            return nn.Conv2d(c_in, c_out, kernel, padding=padding, bias=bias)
        return LiftingConv2d(c_in, c_out, kernel, group=self.group, padding=padding, bias=bias)

    def mixing(self, layer: MixingLayer, fields: int, kernel: int, **e4: Any) -> nn.Module:
        """The layer that an E4 network replaces: an E4 layer, or a group convolution of the same size.

        Raises:
            SettingError: for another layer, an even kernel, or arguments that the E4 layer refuses.
        """
        if kernel % 2 == 0:
            raise SettingError(f"kernel (={kernel}) must be odd: the network keeps its map sizes")
        if layer == "group":
            return self.convolution(fields, fields, kernel, padding=(kernel - 1) // 2)
        if layer == "e4":
            return E4Conv2d(fields, fields, kernel, group=self.group, **e4)
        raise SettingError(f"layer (={layer!r}) must be 'e4' or 'group'")

    def norm(self, fields: int) -> nn.Module:
        """A batch norm with one affine pair per field."""
        return nn.BatchNorm2d(fields) if self.group.order == 1 else FieldBatchNorm2d(fields, group=self.group)

    def pre_activation(
        self, c_in: int, c_out: int, stride: int, convolution: Callable[[int, int, int], nn.Module]
    ) -> Chain:
        """BN - ReLU - 3x3 - BN - ReLU - 3x3, of which the first convolution strides.

        Args:
            c_in: fields that enter.
            c_out: fields that leave.
            stride: of the first convolution.
            convolution: builds one from the fields that enter, the fields that leave, and the stride.
        """
        return Chain(
            norm1=self.norm(c_in),
            relu1=nn.ReLU(),
            conv1=convolution(c_in, c_out, stride),
            norm2=self.norm(c_out),
            relu2=nn.ReLU(),
            conv2=convolution(c_out, c_out, 1),
        )

    def group_pool(self, fields: int) -> nn.Module | None:
        """The maximum over the group; None for the trivial group, which has nothing to pool."""
        return GroupMaxPool(fields, group=self.group) if self.group.order > 1 else None


def residual_stages(
    c_in: int,
    stages: Iterable[tuple[int, int]],
    block: Callable[[int, int, int], nn.Module],
    container: type[Chain] = Chain,
) -> tuple[dict[str, nn.Module], int]:
    """Stages of residual blocks by name, and the fields of the last; every stage but the first strides at its start.

    Args:
        c_in: fields that enter.
        stages: fields and number of blocks of each.
        block: builds one from the fields that enter, the fields that leave, and the stride.
        container: of each stage.
    """
    built: dict[str, nn.Module] = {}
    for stage, (c_out, depth) in enumerate(stages, 1):
        blocks: dict[str, nn.Module] = {}
        for index in range(1, depth + 1):
            blocks[f"block{index}"] = block(c_in, c_out, 2 if stage > 1 and index == 1 else 1)
            c_in = c_out
        built[f"stage{stage}"] = container(**blocks)
    return built, c_in


def activated_block(
    first: Mapping[str, nn.Module], rest: Mapping[str, nn.Module | None], shortcut: nn.Module | None
) -> nn.Module:
    """A pre-activation block whose shortcut, where it is none of the identity, starts behind the first norm and ReLU.

    Args:
        first: the norm and the ReLU that the block begins with.
        rest: what follows them.
        shortcut: None for the identity, which starts at the block's input.
    """
    if shortcut is None:
        return Residual(Chain(**first, **rest))
    return Chain(**first, residual=Residual(Chain(**rest), shortcut))


NETWORKS: dict[str, Callable[..., nn.Module]] = {}
"""Every topology by the name that a card gives in ``network``."""


def network(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Register a builder under its function name; it takes ``execution`` beside its own arguments.

    ``execution`` is that of every group convolution (see ``layers.set_execution``). A topology whose layers have
    executions of their own takes those by the same name.
    """
    own = signature(builder)
    parameter = own.parameters.get("execution", Parameter("execution", Parameter.KEYWORD_ONLY, default="bank"))
    others = [one for one in own.parameters.values() if one.name != "execution"]

    @wraps(builder)
    def built(*, execution: Any = parameter.default, **arguments: Any) -> Any:
        if "execution" in own.parameters and execution not in EXECUTIONS:
            return builder(execution=execution, **arguments)
        return set_execution(builder(**arguments), execution)

    built.__signature__ = own.replace(parameters=[*others, parameter])  # type: ignore[attr-defined]
    NETWORKS[builder.__name__] = built
    return built
