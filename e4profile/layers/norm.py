"""Norms over whole fields: one affine pair per field keeps them equivariant. He et al. 2021, released networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import BATCH_NORM, GROUP_NORM
from e4profile.errors import SettingError
from e4profile.groups import GroupLike
from e4profile.layers.base import Dimensions, FieldLayer, Sample, Shape
from e4profile.layers.storages import STATISTICS, Step, Timeline, norm_timeline
from e4profile.symbols import A, B, affine_pairs, c_in, h, is_expanded, w


class FieldBatchNorm2d(FieldLayer):
    """Batch norm over batch, group and space: statistics and one affine pair per field.

    The norm itself is a stock ``nn.BatchNorm3d`` over (B, fields, A, h, w), as in the released networks.

    Shapes: (B, fields * A, h, w) -> the same.

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "He et al. 2021, released networks; Cohen & Welling 2016"
    params = {"weight": c_in, "bias": c_in}
    elements = {"norm": c_in * A * h * w}
    kinds = {"norm": BATCH_NORM}
    calls = {"norm": 2}
    saved = {"input": c_in * A * h * w}
    saved_constant = {"statistics": 2 * c_in}
    saved_as = {"statistics": STATISTICS}
    peak = norm_timeline(B * c_in * A * h * w, c_in, params, STATISTICS)

    def __init__(self, fields: int, *, group: GroupLike, eps: float = 1e-5) -> None:
        super().__init__()
        self._set_fields(fields, group)
        self.norm = nn.BatchNorm3d(fields, eps=eps)

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> the same."""
        normalised: Tensor = self.norm(features.unflatten(1, (self.fields, self.group.order)))
        return normalised.flatten(1, 2)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))


class FieldGroupNorm(FieldLayer):
    """Group norm over each field's A maps.

    ``affine="field"`` has one affine pair per field. ``affine="channel"`` has one per field *and group
    element*, as in the released E4 networks: equivariant at initialisation, when every pair is (1, 0), and
    no longer after one optimiser step.

    Shapes: (B, fields * A, h, w) -> the same.

    Raises:
        SettingError: for sizes that are not positive or an unknown affine.
    """

    source = "He et al. 2021, released networks"
    params = {"weight": c_in * affine_pairs, "bias": c_in * affine_pairs}
    elements = {"norm": c_in * A * h * w}
    kinds = {"norm": GROUP_NORM}
    saved = {"input": c_in * A * h * w, "statistics": 2 * c_in}
    saved_constant = {"affine": is_expanded * c_in * A}
    peak = Timeline(
        forward=(
            Step(
                "expand affine pairs",
                {"weight of each element": c_in * A, "bias of each element": c_in * A},
                when=is_expanded,
            ),
            Step(
                "normalise",
                {"output": B * c_in * A * h * w, "means": B * c_in, "deviations": B * c_in},
                ("bias of each element",),
            ),
        ),
        backward=(
            Step(
                "normalise, backward",
                {
                    "gradient of input": B * c_in * A * h * w,
                    "gradient of weight of each element": is_expanded * c_in * A,
                    "gradient of bias of each element": is_expanded * c_in * A,
                    "gradient of weight": (1 - is_expanded) * c_in * affine_pairs,
                    "gradient of bias": (1 - is_expanded) * c_in * affine_pairs,
                },
                ("weight of each element", "means", "deviations"),
            ),
            Step("add up bias", {"gradient of bias": c_in}, ("gradient of bias of each element",), when=is_expanded),
            Step(
                "add up weight", {"gradient of weight": c_in}, ("gradient of weight of each element",), when=is_expanded
            ),
        ),
    )

    def __init__(
        self, fields: int, *, group: GroupLike, affine: Literal["field", "channel"] = "field", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self._set_fields(fields, group)
        if affine not in ("field", "channel"):
            raise SettingError(f"affine (={affine!r}) must be 'field' or 'channel'")
        self.affine, self.eps = affine, eps
        pairs = fields * (self.group.order if affine == "channel" else 1)
        self.weight = nn.Parameter(torch.ones(pairs))
        self.bias = nn.Parameter(torch.zeros(pairs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> the same."""
        repeats = self.group.order if self.affine == "field" else 1
        weight, bias = self._per_channel(self.weight, repeats), self._per_channel(self.bias, repeats)
        # F.group_norm refuses one value per group when the batch is 1 and takes it when the batch is 2
        normalised: Tensor = torch.group_norm(features, self.fields, weight, bias, self.eps)
        return normalised

    @staticmethod
    def _per_channel(pairs: Tensor, repeats: int) -> Tensor:
        return pairs.repeat_interleave(repeats) if repeats > 1 else pairs

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        pairs = self.group.order if self.affine == "channel" else 1
        expanded = self.affine == "field" and self.group.order > 1
        return {**super().dimensions(input_shape), affine_pairs: pairs, is_expanded: int(expanded)}

    def inexact_on(self, input_shape: Shape) -> str | None:
        """Why this norm is not equivariant, or None."""
        del input_shape
        if self.affine == "channel" and self.group.order > 1:
            return (
                "affine='channel' learns one affine pair per group element: equivariant at initialisation only; "
                "affine='field' stays equivariant"
            )
        return None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))
        yield Sample({"fields": 2, "affine": "channel"}, (3, 3))


class FieldLayerNorm(FieldLayer):
    """Group norm with one group, and one affine pair per field.

    Shapes: (B, fields * A, h, w) -> the same.

    Raises:
        SettingError: for sizes that are not positive.
    """

    source = "Romero & Cordonnier 2021, released networks"
    params = {"weight": c_in, "bias": c_in}
    elements = {"norm": c_in * A * h * w}
    kinds = {"norm": GROUP_NORM}
    saved = {"input": c_in * A * h * w, "statistics": 2}
    peak = norm_timeline(B * c_in * A * h * w, B, params)

    def __init__(self, fields: int, *, group: GroupLike, eps: float = 1e-12) -> None:
        super().__init__()
        self._set_fields(fields, group)
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))

    def forward(self, features: Tensor) -> Tensor:
        """(B, fields * A, h, w) -> the same."""
        shape = features.shape
        merged = features.reshape(shape[0], self.fields, self.group.order * shape[2], shape[3])
        return F.group_norm(merged, 1, self.weight, self.bias, self.eps).reshape(shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"fields": 3}, (4, 5))
