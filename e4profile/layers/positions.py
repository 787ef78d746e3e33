"""Relative positions in a patch as every group element sees them. Romero & Cordonnier 2021, section 5.

Patch coordinates are (row, column) with rows pointing down, from -1 to 1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import LINEAR
from e4profile.errors import SettingError, positive
from e4profile.groups import Group

Point = tuple[float, float]


def turned_positions(group: Group, kernel: int) -> list[list[Point]]:
    """[element][tap]: the coordinates of element^-1 applied to each position of a k x k patch.

    Quarter turns are exact; only positions turn, so the group need not map the grid onto itself.

    Raises:
        SettingError: for a kernel without a centre.
    """
    positive(kernel=kernel)
    if kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd: a patch is centred on its query")
    steps = [2 * i / (kernel - 1) - 1 for i in range(kernel)] if kernel > 1 else [0.0]
    turned = []
    for element in group.elements:
        (a, b), (c, d) = group.matrix(group.inverse(element))
        # points are (x, y) with y up: a row is -y
        turned.append([(-(c * column - d * row), a * column - b * row) for row in steps for column in steps])
    return turned


class PositionNetwork(nn.Module):
    """One coordinate to its features: linear, norm over the hidden units, Swish, linear.

    Shapes: (N,) -> (N, features).
    """

    operation_kind: ClassVar[str] = LINEAR

    def __init__(self, hidden: int, features: int, eps: float = 1e-12) -> None:
        super().__init__()
        positive(hidden=hidden, features=features)
        self.inner, self.outer = nn.Linear(1, hidden), nn.Linear(hidden, features)
        self.norm = nn.GroupNorm(1, hidden, eps=eps)

    def forward(self, coordinates: Tensor) -> Tensor:
        """(N,) -> (N, features)."""
        features: Tensor = self.outer(F.silu(self.norm(self.inner(coordinates[:, None]))))
        return features


class PositionEmbedding(nn.Module):
    """A network for rows and one for columns, shared by all group elements and heads.

    Shapes: nothing -> (A, 2 * features, k * k), the features of rows first.

    Raises:
        SettingError: for a kernel without a centre, or sizes that are not positive.
    """

    def __init__(self, kernel: int, features: int, *, group: Group, hidden: int) -> None:
        super().__init__()
        self.positions = turned_positions(group, kernel)
        self.rows, self.columns = PositionNetwork(hidden, features), PositionNetwork(hidden, features)

    def forward(self) -> Tensor:
        """The features of every position as every group element sees it: (A, 2 * features, k * k)."""
        weight = self.rows.inner.weight
        coordinates = torch.tensor(self.positions, dtype=weight.dtype, device=weight.device)
        elements, taps, _ = coordinates.shape
        rows = self.rows(coordinates[..., 0].flatten())
        columns = self.columns(coordinates[..., 1].flatten())
        return torch.cat((rows, columns), 1).view(elements, taps, -1).transpose(1, 2)
