"""Wide ResNets: the plain one of Zagoruyko & Komodakis 2016, and the E(2)-steerable ones of Weiler & Cesa 2019.

The steerable networks of section 3.3 have regular fields. Their group is restricted before the second and the third
stage, of eight rotations to four and to none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import Group, GroupLike
from e4profile.groups.names import square_group
from e4profile.layers import Chain, Restriction, SteerableConv2d
from e4profile.layers.steerable import FieldName
from e4profile.networks.blocks import Parts, activated_block, network, residual_stages

_STEM = 16
_STAGES = 3


def _blocks_of(depth: int) -> int:
    """The blocks of a stage of a network of 6 n + 4 layers.

    Raises:
        SettingError: for another number of layers.
    """
    if depth < 10 or depth % 6 != 4:
        raise SettingError(f"depth (={depth}) must be 6 n + 4 with n at least 1: 10, 16, 22, 28, ...")
    return (depth - 4) // 6


def _widths(widen: int) -> list[int]:
    return [_STEM * widen * 2**stage for stage in range(_STAGES)]


def _rest(conv1: nn.Module, norm2: nn.Module, dropout: float, conv2: nn.Module) -> Mapping[str, nn.Module]:
    """What follows the first norm and ReLU of a block."""
    return {"conv1": conv1, "norm2": norm2, "relu2": nn.ReLU(), "dropout": nn.Dropout(dropout), "conv2": conv2}


def _head(norm: nn.Module, channels: int, classes: int) -> Mapping[str, nn.Module]:
    return {
        "norm": norm,
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(channels, classes),
    }


@network
def wide_resnet(
    *,
    depth: int = 28,
    widen: int = 10,
    initial_stride: int = 1,
    dropout: float = 0.3,
    channels: int = 3,
    classes: int = 10,
) -> Chain:
    """A 3x3 convolution to 16 channels, stages of 16 k, 32 k and 64 k channels, a final norm, mean over positions.

    A block is BN - ReLU - 3x3 - BN - ReLU - dropout - 3x3, of which the first convolution strides; a 1x1 convolution
    behind the first ReLU is the shortcut where the width or the size changes. No convolution has a bias.
    Shapes: (B, channels, h, w) -> (B, classes).

    Args:
        depth: layers, 6 n + 4 for n blocks in each stage.
        widen: k.
        initial_stride: of the first stage; the others have 2.
        dropout: rate within a block.
        channels: of the image.
        classes: of the classifier.

    Raises:
        SettingError: for another depth, or sizes that are not positive.
    """
    positive(widen=widen, initial_stride=initial_stride, channels=channels, classes=classes)

    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        stride = stride if c_in != _STEM else initial_stride
        conv1, conv2 = (nn.Conv2d(one, c_out, 3, by, padding=1, bias=False) for one, by in ((c_in, stride), (c_out, 1)))
        shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if stride != 1 or c_in != c_out else None
        first = {"norm1": nn.BatchNorm2d(c_in), "relu1": nn.ReLU()}
        return activated_block(first, _rest(conv1, nn.BatchNorm2d(c_out), dropout, conv2), shortcut)

    stages, c_in = residual_stages(_STEM, [(width, _blocks_of(depth)) for width in _widths(widen)], block)
    return Chain(
        stem=nn.Conv2d(channels, _STEM, 3, padding=1, bias=False),
        **stages,
        **_head(nn.BatchNorm2d(c_in), c_in, classes),
    )


@network
def steerable_wide_resnet(
    *,
    group: GroupLike,
    restricted: Sequence[GroupLike] | None = None,
    depth: int = 28,
    widen: int = 10,
    fixparams: bool = True,
    initial_stride: int = 1,
    kernels: Sequence[int] | None = None,
    cutoff: float | None = 1.0,
    sigma: float | None = None,
    dropout: float = 0.3,
    channels: int = 3,
    classes: int = 10,
) -> Chain:
    """The Wide ResNet with regular fields in the place of channels, as many channels or as many parameters.

    The stem is a 5x5 convolution from the image; the second convolution of a block strides; the last block ends in
    trivial fields, so the logits are invariant under the last group. Behind a restriction the first norm still has one
    affine pair per field of the larger group. Shapes: (B, channels, h, w) -> (B, classes).

    Args:
        group: of stem and first stage.
        restricted: groups of the second and the third stage; ``group`` when None.
        depth: layers, 6 n + 4 for n blocks in each stage.
        widen: k; the plain network has 16 k, 32 k and 64 k channels.
        fixparams: whether fields are sqrt(A) as many as keep the channels, so that parameters stay near the plain
            network's. The stem always has as many.
        initial_stride: of the first stage; the others have 2.
        kernels: of each stage; 3 where a group has at most 4 rotations and 5 where it has more when None.
        cutoff: of the kernels' frequencies (see ``SteerableConv2d``).
        sigma: of the kernels' rings.
        dropout: rate within a block.
        channels: of the image.
        classes: of the classifier.

    Raises:
        SettingError: for another depth, a group that is no subgroup of the one before, or arguments that the layers
            refuse.
    """
    positive(widen=widen, initial_stride=initial_stride, channels=channels, classes=classes)
    groups = [square_group(one, "steerable_wide_resnet") for one in (group, *(restricted or (group, group)))]
    sizes = list(kernels or (3 if one.rotations <= 4 else 5 for one in groups))
    for name, given in (("restricted", groups[1:]), ("kernels", sizes[:-1])):
        if len(given) != _STAGES - 1:
            raise SettingError(f"{name} (={restricted if name == 'restricted' else kernels}) must fit three stages")
    blocks = _blocks_of(depth)

    def steerable(
        c_in: int, c_out: int, kernel: int, acts: Group, stride: int = 1,
        *, field_in: FieldName = "regular", field_out: FieldName = "regular",
    ) -> SteerableConv2d:  # fmt: skip
        return SteerableConv2d(
            c_in, c_out, kernel, group=acts, stride=stride, padding=kernel // 2, field_in=field_in,
            field_out=field_out, cutoff=cutoff, sigma=sigma,
        )  # fmt: skip

    def fields_of(width: int, acts: Group, *, fix: bool) -> int:
        return math.isqrt(width**2 // acts.order) if fix else width // acts.order

    built: dict[str, nn.Module] = {}
    fields = fields_of(_STEM, groups[0], fix=True)
    built["stem"] = steerable(channels, fields, 5, groups[0], field_in="trivial")
    norm1 = Parts(groups[0]).norm(fields)
    for stage, (width, acts, kernel) in enumerate(zip(_widths(widen), groups, sizes, strict=True)):
        larger = groups[max(stage - 1, 0)]
        if acts != larger:
            built[f"restriction{stage}"] = Restriction(fields, group=acts, of=larger)
            fields *= larger.order // acts.order
        inner = fields_of(width, acts, fix=fixparams)
        found: dict[str, nn.Module] = {}
        for index in range(1, blocks + 1):
            stride = 1 if index > 1 else 2 if stage else initial_stride
            ends = stage == _STAGES - 1 and index == blocks
            c_out = (math.isqrt(width**2 * acts.order) if fixparams else width) if ends else inner
            field_out: FieldName = "trivial" if ends else "regular"
            shortcut = None
            if stride != 1 or fields != c_out or ends:
                shortcut = steerable(fields, c_out, 1, acts, stride, field_out=field_out)
            rest = _rest(
                steerable(fields, inner, kernel, acts),
                Parts(acts).norm(inner),
                dropout,
                steerable(inner, c_out, kernel, acts, stride, field_out=field_out),
            )
            found[f"block{index}"] = activated_block({"norm1": norm1, "relu1": nn.ReLU()}, rest, shortcut)
            fields, norm1 = c_out, nn.BatchNorm2d(c_out) if ends else Parts(acts).norm(c_out)
        built[f"stage{stage + 1}"] = Chain(**found)
    made = Chain(**built, **_head(norm1, fields, classes))
    made.group = groups[-1]  # type: ignore[assignment]  # under which the logits are invariant
    return made
