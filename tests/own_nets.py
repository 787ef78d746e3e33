"""A file of networks as somebody else might write it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.first = nn.Conv2d(3, width, 3)
            self.last = nn.Linear(width, 2)

        def forward(self, image, mask=None):
            maps = self.first(image)
            if mask is not None:
                maps = maps * mask
            return {"logits": self.last(maps.mean((2, 3))), "maps": maps}

    def build(width, *, depth=1):
        return Net(width)

    ready = Net()
    number = 3

    def makes_nothing():
        return [Net()]

    def raises():
        raise ValueError("no luck")
"""


def write(folder: Path, text: str, name: str = "net.py") -> str:
    (folder / name).write_text(dedent(text), encoding="utf-8")
    return str(folder / name)
