"""Networks as somebody else might write them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

NET = """
    import torch
    from torch import nn
    from e4profile.layers import Chain, E4Conv2d, GroupMaxPool, LiftingConv2d

    print("imported")

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)
            self.tokens = nn.Conv1d(width, 2, 1)

        def forward(self, image, mask=None, times=1):
            maps = self.conv(image)
            for _ in range(times):
                maps = maps.relu()
            if mask is not None:
                maps = maps * mask
            return {"maps": maps, "tokens": self.tokens(maps.flatten(2))}

    def build(width=4):
        return Net(width)

    def needs(width):
        return Net(width)

    def plain():
        return nn.Conv1d(3, 2, 1)

    def wrong():
        class Wrong(nn.Conv2d):
            pass
        model = nn.Sequential(nn.Conv2d(3, 4, 3))
        # one more convolution than the layer's form knows
        model[0].forward = lambda x: nn.functional.conv2d(x, model[0].weight) + nn.functional.conv2d(x, model[0].weight)
        return model

    def unknown():
        class Odd(nn.Module):
            def forward(self, x):
                return torch.linalg.matrix_exp(x)
        return nn.Sequential(nn.Conv2d(3, 4, 3), Odd())

    class Mixed(nn.Module):
        def __init__(self, affine="field"):
            super().__init__()
            self.lift = LiftingConv2d(1, 2, 3, group="p4", padding=1)
            self.e4 = E4Conv2d(2, 2, 3, group="p4", squeeze_affine=affine)
            self.pool = GroupMaxPool(2, group="p4")

        def forward(self, x):
            maps = torch.relu(self.lift(x))
            return self.pool(maps + self.e4(maps)).amax((2, 3))
"""

IMAGES_ONLY = """
    from torch import nn

    def build(width=4):
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 5))
"""


def write(folder: Path, text: str, name: str = "net.py") -> None:
    """A file of code in a folder."""
    (folder / name).write_text(dedent(text), encoding="utf-8")
