"""Group self-attention over local patches, with positions that turn. Romero & Cordonnier 2021, section 5.

Names: v output element, g element of the query, m element of the key, x pixel, p position in the patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.conventions import ATTENTION, ATTENTION_NAIVE, GROUP_NORM, LINEAR
from e4profile.errors import SettingError, positive
from e4profile.groups import Group, GroupLike, square_group
from e4profile.layers import operators
from e4profile.layers.base import Dimensions, EquivariantLayer, Sample, Shape, check_maps
from e4profile.layers.positions import PositionEmbedding
from e4profile.layers.storages import FLAG
from e4profile.layers.terms import Term, Terms
from e4profile.symbols import A, B, D, H, P, c_in, c_out, h, k, n_hidden, w

RelativeIndex = Literal["published", "equivariant"]

_POSITION_PARAMS = 2 * (4 * n_hidden + (n_hidden + 1) * P)
_POSITION_MACS = 2 * A * k**2 * n_hidden * (1 + P)
_POSITION_NORMS = 2 * A * k**2 * n_hidden
_KINDS = {
    "position networks": LINEAR,
    "content": ATTENTION,
    "positions": ATTENTION,
    "values": ATTENTION,
    "position norms": GROUP_NORM,
    "naive attention": ATTENTION_NAIVE,
}
_SAVED_CONSTANT = {
    "coordinates": 2 * A * k**2,
    "position networks, hidden": 6 * A * k**2 * n_hidden,
    "position norm statistics": 4 * A * k**2,
    "position features": 2 * P * A * k**2,
    "outside the image": k**2 * h * w,
}
_SAVED_AS = {"outside the image": FLAG}


def _saved(sources: Term) -> Terms:
    """Elements kept for backward per image; the attention is kept for every output element."""
    return {
        "input": c_in * sources * h * w,
        "queries": H * D * sources * h * w,
        "keys by patch": H * D * sources * k**2 * h * w,
        "values by patch": H * D * sources * k**2 * h * w,
        "attention": H * A * sources**2 * k**2 * h * w,
        "attention summed over queries": H * A * sources * k**2 * h * w,
        "attended": H * D * A * h * w,
    }


def _moved(sources: Term) -> Terms:
    """Elements that each term reads and writes, for a batch of B; scores are read and written step by step."""
    patches = B * H * D * sources * k**2 * h * w
    scores = B * H * sources**2 * k**2 * h * w
    return {
        "query, key, value": B * (c_in + 3 * D * H) * sources * h * w,
        "content": patches + scores,
        "positions": 10 * A * scores,
        "group table": A * scores,
        "values": patches + B * H * A * sources * k**2 * h * w,
        "output": B * (D * H + c_out) * A * h * w,
        "position networks": 6 * A * k**2 * n_hidden,
    }


class _SelfAttention2d(EquivariantLayer):
    """What lifting and group layer share; they differ in the elements of query and key, and in the table.

    For each v, heads apart: score[g,x,m,p] = (q(g,x) . key(m,x+p) + q . position_v(p) + q . table[v,g,m]) /
    sqrt(c_in); positions outside the image have weight 0; softmax jointly over (m, p); the weights are summed
    over g and then applied to value(m, x+p). The published order applies them before the sum, which gives the
    same numbers for A times the products: ``naive attention`` is what all its products cost.
    """

    source = "Romero & Cordonnier 2021, Group Equivariant Stand-Alone Self-Attention for Vision, section 5"
    per_forward = frozenset({"position networks", "position norms"})
    entry_terms = frozenset({"query, key, value"})
    constant_inputs = {"position networks": 2 * A * k**2 * n_hidden}
    operation_kind: ClassVar[str] = ATTENTION
    runs_as = dict.fromkeys(("query, key, value", "output"), operators.POINTWISE)
    calls = {"content": 12, "positions": 10 * A, "values": 2 * A}

    group: Group
    group_table: nn.Parameter | None
    table_index: Tensor

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, group: GroupLike, heads: int, head_channels: int,
        position_features: int, position_hidden: int,
    ) -> None:  # fmt: skip
        super().__init__()
        positive(c_in=c_in, c_out=c_out, heads=heads, head_channels=head_channels)
        self.group = square_group(group, type(self).__name__)
        self.c_in, self.c_out, self.kernel = c_in, c_out, kernel
        self.heads, self.head_channels = heads, head_channels
        self.position_features, self.position_hidden = position_features, position_hidden
        self.query = nn.Conv2d(c_in, heads * head_channels, 1)
        self.key = nn.Conv2d(c_in, heads * head_channels, 1)
        self.value = nn.Conv2d(c_in, heads * head_channels, 1)
        self.output = nn.Conv2d(heads * head_channels, c_out, 1)
        self.embedding = PositionEmbedding(kernel, position_features, group=self.group, hidden=position_hidden)
        self.group_table = None

    @property
    def _sources(self) -> int:
        """Elements of query and key."""
        return self._channels(self.field_in)

    def _per_pixel(self, projected: Tensor, sources: int) -> Tensor:
        """(B, H * D, sources * h, w) -> (B * H * pixels, sources, D), contiguous."""
        images = projected.shape[0] * self.heads
        pixels = projected.shape[2] * projected.shape[3] // sources
        by_element = projected.reshape(images, self.head_channels, sources, pixels)
        return by_element.permute(0, 3, 2, 1).reshape(images * pixels, sources, self.head_channels).contiguous()

    def _per_patch(self, projected: Tensor, rows: int) -> Tensor:
        """(B, H * D, sources * h, w) -> (B * H * pixels, D, sources * k * k), contiguous; zeros outside the image."""
        margin, columns = self.kernel // 2, projected.shape[3]
        images, pixels = projected.shape[0] * self.heads, rows * columns
        padded = F.pad(projected.reshape(images * self.head_channels * self._sources, rows, columns), (margin,) * 4)
        patches = padded.unfold(1, self.kernel, 1).unfold(2, self.kernel, 1)
        patches = patches.reshape(images, self.head_channels, self._sources, pixels, self.kernel**2)
        patches = patches.permute(0, 3, 1, 2, 4)
        # of a single image or pixel this could be a view, which the products would copy again or keep whole
        return patches.reshape(images * pixels, self.head_channels, self._sources * self.kernel**2).contiguous()

    def _outside(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """(pixels, 1, 1, k * k): whether a patch position falls outside the image."""
        reach = torch.arange(self.kernel, device=like.device) - self.kernel // 2
        y = torch.arange(rows, device=like.device)[:, None] + reach
        x = torch.arange(columns, device=like.device)[:, None] + reach
        y_out, x_out = (y < 0) | (y >= rows), (x < 0) | (x >= columns)
        return (y_out[:, None, :, None] | x_out[None, :, None, :]).reshape(rows * columns, 1, 1, -1)

    def _table_scores(self, query: Tensor, element: int) -> Tensor | None:
        """(B * H * pixels, g, D) -> (B * H * pixels, g, m)."""
        if self.group_table is None:
            return None
        features = self.group_table[self.table_index[element]]
        by_element = query[..., 2 * self.position_features :].transpose(0, 1)
        return torch.bmm(by_element, features.transpose(1, 2)).transpose(0, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, c_in, h, w) or (B, c_in * A, h, w) -> (B, c_out * A, h, w)."""
        batch, _, rows, columns = features.shape
        sources, taps, order = self._sources, self.kernel**2, self.group.order
        images, pixels = batch * self.heads, rows * columns
        merged = features.reshape(batch, self.c_in, sources * rows, columns)
        query = self._per_pixel(self.query(merged), sources)
        key = self._per_patch(self.key(merged), rows)
        value = self._per_patch(self.value(merged), rows).transpose(1, 2)
        outside = self._outside(rows, columns, features)
        positions = self.embedding()
        for_position = query[..., : 2 * self.position_features].flatten(0, 1)
        content = torch.bmm(query, key).view(images, pixels, sources, sources, taps)
        attended = []
        # one output element at a time: all scores at once would be A times as many
        for element in self.group.elements:
            scores = content + (for_position @ positions[element]).view(images, pixels, sources, 1, taps)
            from_table = self._table_scores(query, element)
            if from_table is not None:
                scores = scores + from_table.reshape(images, pixels, sources, sources, 1)
            scores = (scores / math.sqrt(self.c_in)).masked_fill(outside, -math.inf)
            weights = scores.flatten(-2).softmax(-1).sum(-2).view(images * pixels, 1, sources * taps)
            attended.append(torch.bmm(weights, value))
        heads = torch.stack(attended).view(order, batch, self.heads, pixels, self.head_channels)
        heads = heads.permute(1, 2, 4, 0, 3).reshape(batch, self.heads * self.head_channels, order * rows, columns)
        mixed: Tensor = self.output(heads)
        return mixed.reshape(batch, self.c_out * order, rows, columns)

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why no timeline is stated."""
        del input_shape
        return (
            "the scores are made in a loop over the group's elements, so that the steps grow in number with the group; "
            "a timeline has a fixed number of steps"
        )

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        rows, columns = check_maps(self, input_shape, self.c_in * self._sources)
        return {
            A: self.group.order, c_in: self.c_in, c_out: self.c_out, k: self.kernel, h: rows, w: columns,
            H: self.heads, D: self.head_channels, P: self.position_features, n_hidden: self.position_hidden,
        }  # fmt: skip

    def output_shape(self, input_shape: Shape) -> Shape:
        """(B, c_in, h, w) or (B, c_in * A, h, w) -> (B, c_out * A, h, w)."""
        rows, columns = check_maps(self, input_shape, self.c_in * self._sources)
        return (input_shape[0], self.c_out * self.group.order, rows, columns)

    def inexact_on(self, input_shape: Sequence[int]) -> str | None:
        """Why this layer is not exactly equivariant, or None."""
        del input_shape
        if self.group.exact_on_grid:
            return None
        return (
            f"{self.group.name} rotates by {360 / self.group.rotations:g} degrees: positions turn with it, "
            "but only its quarter turns map the pixel grid onto itself"
        )


class LiftingSelfAttention2d(_SelfAttention2d):
    """Self-attention from an image to regular fields: query, key and value have no group element.

    ``head_channels / 2`` query channels score rows and as many score columns.
    Shapes: (B, c_in, h, w) -> (B, c_out * A, h, w).

    Raises:
        SettingError: for an even kernel, odd head channels, or sizes that are not positive.
    """

    field_in = "trivial"
    kinds = _KINDS
    params = {
        "query, key, value": 3 * (c_in + 1) * D * H,
        "output": (D * H + 1) * c_out,
        "position networks": _POSITION_PARAMS,
    }
    macs = {
        "query, key, value": 3 * c_in * D * H * h * w,
        "content": D * H * k**2 * h * w,
        "positions": 2 * P * H * A * k**2 * h * w,
        "values": D * H * A * k**2 * h * w,
        "output": D * H * c_out * A * h * w,
        "position networks": _POSITION_MACS,
    }
    elements = {"position norms": _POSITION_NORMS, "naive attention": (D + 2 * P * A + D * A) * H * k**2 * h * w}
    saved = _saved(1)
    moved = _moved(1)
    saved_constant = _SAVED_CONSTANT
    saved_as = _SAVED_AS

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, group: GroupLike, heads: int, head_channels: int,
        position_hidden: int = 16,
    ) -> None:  # fmt: skip
        if head_channels % 2:
            raise SettingError(f"head_channels (={head_channels}) must be even: rows, columns")
        super().__init__(
            c_in, c_out, kernel, group=group, heads=heads, head_channels=head_channels,
            position_features=head_channels // 2, position_hidden=position_hidden,
        )  # fmt: skip

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        yield Sample({"c_in": 1, "c_out": 2, "kernel": 3, "heads": 2, "head_channels": 4}, (4, 5))
        sizes = {"c_in": 2, "c_out": 3, "kernel": 5, "heads": 1, "head_channels": 2}
        yield Sample({**sizes, "position_hidden": 3}, (4, 4))


class GroupSelfAttention2d(_SelfAttention2d):
    """Self-attention between regular fields.

    Of the query's D channels, floor(D/3) score rows, floor(D/3) score columns, and the rest score a table of
    the relative group element. ``relative_index="published"`` looks the table up at v g^-1 m (m + v - g for
    rotations), which is not invariant when a rotation shifts v, g and m together; ``"equivariant"`` looks it
    up at g^-1 m (m - g), which is. The repair is ours and costs no parameters and no MACs.
    For mirrors, which the source's index m + v - g does not cover, the products above are the definition.
    Shapes: (B, c_in * A, h, w) -> (B, c_out * A, h, w).

    Raises:
        SettingError: for an even kernel, fewer than three head channels, an unknown relative index, or sizes
            that are not positive.
    """

    params = {
        "query, key, value": 3 * (c_in + 1) * D * H,
        "output": (D * H + 1) * c_out,
        "position networks": _POSITION_PARAMS,
        "group table": (D - 2 * P) * A,
    }
    macs = {
        "query, key, value": 3 * c_in * D * H * A * h * w,
        "content": D * H * A**2 * k**2 * h * w,
        "positions": 2 * P * H * A**2 * k**2 * h * w,
        "group table": (D - 2 * P) * H * A**3 * h * w,
        "values": D * H * A**2 * k**2 * h * w,
        "output": D * H * c_out * A * h * w,
        "position networks": _POSITION_MACS,
    }
    kinds = {**_KINDS, "group table": ATTENTION}
    elements = {
        "position norms": _POSITION_NORMS,
        "naive attention": ((D + 2 * P + D * A) * k**2 + (D - 2 * P) * A) * H * A**2 * h * w,
    }
    saved = _saved(A)
    moved = _moved(A)
    saved_constant = {**_SAVED_CONSTANT, "table rows": (D - 2 * P) * A**3}
    saved_as = _SAVED_AS

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, group: GroupLike, heads: int, head_channels: int,
        position_hidden: int = 16, relative_index: RelativeIndex = "equivariant",
    ) -> None:  # fmt: skip
        if relative_index not in ("published", "equivariant"):
            raise SettingError(f"relative_index (={relative_index!r}) must be 'published' or 'equivariant'")
        if head_channels < 3:
            raise SettingError(f"head_channels (={head_channels}) must be at least 3: rows, columns, table")
        super().__init__(
            c_in, c_out, kernel, group=group, heads=heads, head_channels=head_channels,
            position_features=head_channels // 3, position_hidden=position_hidden,
        )  # fmt: skip
        self.relative_index = relative_index
        table_features = head_channels - 2 * self.position_features
        self.group_table = nn.Parameter(torch.randn(self.group.order, table_features))
        self.add_table("table_index", self._relative_elements)

    def _relative_elements(self) -> Tensor:
        """[v, g, m]: the row of the table."""
        product, elements = self.group.product, self.group.elements
        relative = [[product(self.group.inverse(g), m) for m in elements] for g in elements]
        if self.relative_index == "equivariant":
            return torch.tensor([relative for _ in elements])
        return torch.tensor([[[product(v, row[m]) for m in elements] for row in relative] for v in elements])

    def inexact_on(self, input_shape: Sequence[int]) -> str | None:
        """Why this layer is not exactly equivariant, or None."""
        if self.relative_index == "published" and self.group.order > 1:
            return (
                "relative_index='published' looks the group table up at v g^-1 m, which changes when a "
                "rotation shifts v, g and m together; relative_index='equivariant' looks it up at g^-1 m"
            )
        return super().inexact_on(input_shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Settings for the contract tests."""
        sizes = {"c_in": 2, "c_out": 3, "kernel": 3, "heads": 2, "head_channels": 4}
        yield Sample(sizes, (4, 5))
        yield Sample({**sizes, "relative_index": "published"}, (4, 4))
        yield Sample({**sizes, "kernel": 5, "heads": 1, "head_channels": 6, "position_hidden": 3}, (3, 3))
