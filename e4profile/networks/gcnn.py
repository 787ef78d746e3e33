"""The networks of Cohen & Welling 2016, section 8.2, for CIFAR-10: All-CNN-C, and ResNets of 44 and 26 layers.

As in the released code every convolution has a bias, one per field, and every batch norm one affine pair per field.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.groups import GroupLike, as_group
from e4profile.layers import Chain, GroupMeanPool, Residual
from e4profile.networks.blocks import Parts, network, residual_stages


@network
def all_cnn_c(
    *,
    group: GroupLike,
    width: int,
    bias: bool = True,
    norm: bool = True,
    dropout: float = 0.5,
    input_dropout: float = 0.2,
    channels: int = 3,
    classes: int = 10,
) -> Chain:
    """Seven 3x3 and two 1x1 convolutions, each with batch norm and ReLU; the third and the sixth stride by 2.

    The first three have w fields, the next five 2w, the last one a field per class; the first lifts. The logits are
    the means over positions and group. Dropout precedes the first, the fourth and the seventh.
    Shapes: (B, channels, h, w) -> (B, classes).

    Args:
        group: the group.
        width: w.
        bias: whether convolutions have one per field.
        norm: whether batch norms follow them.
        dropout: rate before the fourth and the seventh convolution.
        input_dropout: rate before the first.
        channels: of the image.
        classes: of the last convolution.

    Raises:
        SettingError: for arguments that the layers refuse.
    """
    group = as_group(group)
    parts = Parts(group)
    positive(width=width, channels=channels, classes=classes)
    dropouts = {1: input_dropout, 4: dropout, 7: dropout}
    fields = {0: channels, **dict.fromkeys((1, 2, 3), width), **dict.fromkeys(range(4, 9), 2 * width), 9: classes}

    def layer(index: int) -> Chain:
        sizes, kernel = (fields[index - 1], fields[index]), 3 if index <= 7 else 1
        if index == 1:
            conv = parts.lifting(*sizes, kernel, padding=1, bias=bias)
        else:
            conv = parts.convolution(*sizes, kernel, stride=2 if index in (3, 6) else 1, padding=kernel // 2, bias=bias)
        return Chain(
            dropout=nn.Dropout(dropouts[index]) if index in dropouts else None,
            conv=conv,
            norm=parts.norm(sizes[1]) if norm else None,
            relu=nn.ReLU(),
        )

    return Chain(
        **{f"layer{index}": layer(index) for index in range(1, 10)},
        pool=nn.AdaptiveAvgPool2d(1),
        group_pool=GroupMeanPool(classes, group=group) if group.order > 1 else None,
        flatten=nn.Flatten(),
    )


@network
def gcnn_resnet(
    *, group: GroupLike, widths: Sequence[int], depth: int = 7, bias: bool = True, channels: int = 3, classes: int = 10
) -> Chain:
    """A 3x3 (lifting) convolution, per width a stage of ``depth`` blocks, a final norm, mean over positions.

    A block is BN - ReLU - 3x3 - BN - ReLU - 3x3 plus the identity, or plus a 1x1 convolution of its input where a later
    stage begins with stride 2: 6 depth + 2 layers for three widths. The classifier reads every group element of the
    last fields, so the logits are not invariant. Shapes: (B, channels, h, w) -> (B, classes).

    Args:
        group: the group.
        widths: fields of each stage.
        depth: blocks of a stage.
        bias: whether convolutions have one per field; the classifier has its own in either case.
        channels: of the image.
        classes: of the classifier.

    Raises:
        SettingError: without widths, or for arguments that the layers refuse.
    """
    group = as_group(group)
    parts = Parts(group)
    positive(depth=depth, channels=channels, classes=classes)
    if not widths:
        raise SettingError("widths (=[]) must name at least one stage")

    def conv3x3(c_in: int, c_out: int, stride: int) -> nn.Module:
        return parts.convolution(c_in, c_out, 3, stride=stride, padding=1, bias=bias)

    def block(c_in: int, c_out: int, stride: int) -> Residual:
        shortcut = parts.convolution(c_in, c_out, 1, stride=stride, bias=bias) if stride != 1 or c_in != c_out else None
        return Residual(parts.pre_activation(c_in, c_out, stride, conv3x3), shortcut)

    stages, fields = residual_stages(widths[0], [(fields, depth) for fields in widths], block)
    return Chain(
        stem=parts.lifting(channels, widths[0], 3, padding=1, bias=bias),
        **stages,
        norm=parts.norm(fields),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(fields * group.order, classes),
    )
