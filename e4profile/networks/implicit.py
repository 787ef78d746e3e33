"""The plain CNNs of Khetan et al. 2021, Implicit Equivariance in Convolutional Networks, section 4.

Nothing in them turns: equivariance is asked for by the training loss (``witnesses.equivariance.implicit``), which
compares the maps after the *tapped* modules. In the released networks the last tapped maps also reach the classifier
through the maximum over channel groups, so the classifier's size depends on the pool sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from e4profile.errors import SettingError, positive
from e4profile.layers import Chain
from e4profile.layers.channel_pool import ChannelMaxPool, channel_parts
from e4profile.networks.blocks import activated_block, network, residual_stages

Mode = Literal["R4", "R8"]


class TappedNetwork(Chain):
    """Parts one after another that say which modules the equivariance loss looks at.

    Attributes:
        taps: dotted paths of the modules whose outputs (B, c, h, w) are compared.
        pool_sizes: the loss takes the maximum over groups of so many consecutive channels.
        ratio: in which the channels are shared out to the pool sizes; None where there is only one.
    """

    def __init__(
        self, taps: Sequence[str], pool_sizes: Sequence[int], ratio: Sequence[int] | None, **parts: nn.Module
    ) -> None:
        super().__init__(**parts)
        self.taps, self.pool_sizes = tuple(taps), tuple(pool_sizes)
        self.ratio = None if ratio is None else tuple(ratio)


def default_pool_sizes(mode: str, reflection: bool) -> tuple[int]:
    """One size: 8 for eight rotations or with reflections, else 4.

    Raises:
        SettingError: for a mode that is neither R4 nor R8.
    """
    if mode not in ("R4", "R8"):
        raise SettingError(f"mode (={mode!r}) must be 'R4' or 'R8'")
    return (8,) if mode == "R8" or reflection else (4,)


def _channel_pool(
    widths: Sequence[int], mode: str, reflection: bool, pool_sizes: Sequence[int] | None, ratio: Sequence[int] | None
) -> ChannelMaxPool:
    """The pool before the classifier, on the last of the tapped widths; it must fit all of them.

    Raises:
        SettingError: naming the channels that it does not fit.
    """
    sizes = default_pool_sizes(mode, reflection) if pool_sizes is None else pool_sizes
    for channels in widths:
        channel_parts(channels, sizes, ratio)
    return ChannelMaxPool(widths[-1], sizes, ratio)


def _plain_stack(
    widths: Sequence[int], kernels: Sequence[int], paddings: Sequence[int], pooled: Sequence[int],
    *, channel_pool: ChannelMaxPool, classifier: Chain,
) -> TappedNetwork:  # fmt: skip
    """Convolutions with batch norm and ELU, each tapped after its ELU, then the pooled classifier.

    The first of the ``widths`` is the images'; a 2x2 max-pool follows the convolutions numbered in ``pooled``.
    """
    units = {
        f"unit{i}": Chain(
            conv=nn.Conv2d(widths[i - 1], widths[i], kernel, padding=padding, bias=False),
            norm=nn.BatchNorm2d(widths[i]),
            elu=nn.ELU(),
            pool=nn.MaxPool2d(2) if i in pooled else None,
        )
        for i, (kernel, padding) in enumerate(zip(kernels, paddings, strict=True), 1)
    }
    return TappedNetwork(
        [f"{name}.elu" for name in units], channel_pool.pool_sizes, channel_pool.ratio,
        **units, channel_pool=channel_pool, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
        classifier=classifier,
    )  # fmt: skip


def _perceptron(c_in: int, hidden: int, classes: int, dropout: float | None) -> Chain:
    return Chain(
        hidden=nn.Linear(c_in, hidden),
        norm=nn.BatchNorm1d(hidden),
        elu=nn.ELU(),
        dropout=None if dropout is None else nn.Dropout(dropout),
        output=nn.Linear(hidden, classes),
    )


@network
def basic_cnn(
    *,
    width: int,
    mode: Mode = "R4",
    reflection: bool = False,
    pool_sizes: Sequence[int] | None = None,
    ratio: Sequence[int] | None = None,
    hidden: int = 128,
    channels: int = 1,
    classes: int = 10,
) -> TappedNetwork:
    """BasicCNN: six convolutions of c, 1.5c, 2c, 2c, 3c and 4c channels, the first 7x7, the others 5x5.

    Padding 1, then 2, and none for the last, so a 28x28 image gives 24, 24 (pooled: 12), 12, 12 (6), 6 and 2
    pixels. Batch norm and ELU follow each; six taps. Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for sizes that are not positive, an odd width, or channels that the pool sizes do not fit.
    """
    positive(width=width, hidden=hidden, channels=channels, classes=classes)
    if width % 2:
        raise SettingError(f"width (={width}) must be even: the second layer has 1.5 times as many channels")
    widths = (channels, width, 3 * width // 2, 2 * width, 2 * width, 3 * width, 4 * width)
    pool = _channel_pool(widths[1:], mode, reflection, pool_sizes, ratio)
    classifier = _perceptron(pool.channels_left, hidden, classes, None)
    return _plain_stack(
        widths, (7, 5, 5, 5, 5, 5), (1, 2, 2, 2, 2, 0), (2, 4), channel_pool=pool, classifier=classifier
    )


@network
def implicit_vgg(
    *,
    width: int,
    mode: Mode = "R4",
    reflection: bool = False,
    pool_sizes: Sequence[int] | None = None,
    ratio: Sequence[int] | None = None,
    hidden: int = 1024,
    dropout: float = 0.5,
    channels: int = 3,
    classes: int = 100,
) -> TappedNetwork:
    """VGG: eight convolutions of c, 2c, 4c, 4c and four times 8c channels, kernels 3, 2, 3, 2, 3, 3, 2, 3.

    All are padded by 1; 2x2 max-pools follow the first, second, fourth and sixth; batch norm and ELU follow
    each; eight taps. Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for sizes that are not positive or channels that the pool sizes do not fit.
    """
    positive(width=width, hidden=hidden, channels=channels, classes=classes)
    widths = (channels, *(width * factor for factor in (1, 2, 4, 4, 8, 8, 8, 8)))
    pool = _channel_pool(widths[1:], mode, reflection, pool_sizes, ratio)
    classifier = _perceptron(pool.channels_left, hidden, classes, dropout)
    return _plain_stack(
        widths, (3, 2, 3, 2, 3, 3, 2, 3), (1,) * 8, (1, 2, 4, 6), channel_pool=pool, classifier=classifier
    )


def _pre_activation_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Norm-ReLU-conv-norm-ReLU-conv with the stride on the second; a 1x1 shortcut starts after the first ReLU."""
    first = {"norm1": nn.BatchNorm2d(c_in), "relu1": nn.ReLU()}
    rest = {
        "conv1": nn.Conv2d(c_in, c_out, 3, padding=1),
        "norm2": nn.BatchNorm2d(c_out),
        "relu2": nn.ReLU(),
        "conv2": nn.Conv2d(c_out, c_out, 3, stride, padding=1),
    }
    return activated_block(first, rest, nn.Conv2d(c_in, c_out, 1, stride) if stride != 1 or c_in != c_out else None)


@network
def implicit_resnet18(
    *,
    width: int,
    mode: Mode = "R4",
    reflection: bool = False,
    pool_sizes: Sequence[int] | None = None,
    ratio: Sequence[int] | None = None,
    channels: int = 3,
    classes: int = 100,
) -> TappedNetwork:
    """Pre-activation ResNet18 of c, 2c, 4c and 8c channels: 3x3 stem, no max-pool, biased convolutions.

    Four taps: the first three stages, and the last one after the final norm and ReLU.
    Shapes: (B, channels, h, w) -> (B, classes).

    Raises:
        SettingError: for sizes that are not positive or channels that the pool sizes do not fit.
    """
    positive(width=width, channels=channels, classes=classes)
    stages, c_in = residual_stages(width, [(width * 2**i, 2) for i in range(4)], _pre_activation_block)
    pool = _channel_pool([width * 2**i for i in range(4)], mode, reflection, pool_sizes, ratio)
    return TappedNetwork(
        ("stage1", "stage2", "stage3", "final.relu"), pool.pool_sizes, pool.ratio,
        stem=nn.Conv2d(channels, width, 3, padding=1),
        **stages,
        final=Chain(norm=nn.BatchNorm2d(c_in), relu=nn.ReLU()),
        channel_pool=pool,
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(pool.channels_left, classes),
    )  # fmt: skip
