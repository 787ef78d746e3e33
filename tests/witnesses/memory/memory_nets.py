"""Small networks that the memory tests share."""

from __future__ import annotations

import torch
from torch import nn

from e4profile.groups import as_group
from e4profile.layers import Chain, E4Conv2d, FieldBatchNorm2d, GroupConv2d, GroupMaxPool, LiftingConv2d


def plain_stack(width: int, channels: int = 1) -> Chain:
    """Seven valid convolutions on 28x28: the plain network of the separable-convolution literature."""
    stages = {}
    for index in range(7):
        conv = nn.Conv2d(channels, width, 4 if index == 6 else 3)
        pool = nn.MaxPool2d(2) if index == 1 else None
        stages[f"layer{index + 1}"] = Chain(conv=conv, norm=nn.BatchNorm2d(width), relu=nn.ReLU(), pool=pool)
        channels = width
    return Chain(**stages, flatten=nn.Flatten(), classifier=nn.Linear(width, 10))


def group_net(width: int = 2, group: str = "p4", layer: str = "e4") -> Chain:
    """Lifting, one equivariant layer, pooling, classifier, with dropout."""
    g = as_group(group)
    body = (
        E4Conv2d(width, width, 3, group=g)
        if layer == "e4"
        else GroupConv2d(width, width, 3, group=g, padding=1, bias=True)
    )
    return Chain(
        lift=LiftingConv2d(1, width, 3, group=g, padding=1),
        norm1=FieldBatchNorm2d(width, group=g),
        relu1=nn.ReLU(),
        body=body,
        norm2=FieldBatchNorm2d(width, group=g),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        dropout=nn.Dropout(0.2),
        group_pool=GroupMaxPool(width, group=g),
        global_pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(width, 10),
    )


class Failing(nn.Module):
    """Raises in forward, after its parts have run."""

    def __init__(self) -> None:
        super().__init__()
        self.part = group_net()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.part(images)
        raise RuntimeError("the forward pass fails here")
