"""The training objective of Khetan et al. 2021, Implicit Equivariance in Convolutional Networks, section 3.

A plain network is shown every image and *one* randomly transformed copy of it, whatever the group, so a
training step costs exactly two plain ones. To the cross-entropy of all 2B images it adds, for every tapped
layer f, beta times the mean squared difference between pool(f(x)) and pool(f(g x)) transformed back; pool is
the maximum over groups of consecutive channels. Nothing of this runs at inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e4profile.errors import SettingError, one_of
from e4profile.groups import Group
from e4profile.layers.channel_pool import channel_max_pool
from e4profile.witnesses.walk import Call, Watcher, following

_ROTATIONS = {"R4": 4, "R8": 8}


@dataclass(frozen=True)
class ImplicitLoss:
    """The objective and its parts.

    Attributes:
        classification: cross-entropy over the 2B images, a scalar.
        equivariance: mean squared difference by tapped layer, scalars; empty when beta is 0.
        beta: the weight of each of them.
        elements: the group element that transformed each of the B copies.
    """

    classification: Tensor
    equivariance: Mapping[str, Tensor]
    beta: float
    elements: Sequence[int] = field(default_factory=tuple)

    @property
    def total(self) -> Tensor:
        """Cross-entropy + beta * the sum of the equivariance errors, a scalar."""
        loss = self.classification
        for difference in self.equivariance.values():
            loss = loss + self.beta * difference
        return loss


def sampling_group(group: str, reflection: bool = False) -> Group:
    """C4 or C8 for R4 or R8; D4 or D8 with reflections.

    Raises:
        UnknownNameError: for another name.
    """
    one_of("rotations", group, _ROTATIONS)
    return Group(_ROTATIONS[group], reflection)


def draw_elements(group: Group, count: int, generator: torch.Generator | None = None) -> list[int]:
    """One random element for each of ``count`` images.

    As in the released code: of four rotations each is equally likely, the identity too; of eight the identity
    is left out; where the group has mirrors, the rotation is followed by nothing, an up-down or a left-right
    flip, each equally likely.
    """
    device = "cpu" if generator is None else generator.device

    def draw(low: int, high: int) -> list[int]:
        drawn: list[int] = torch.randint(low, high, (count,), generator=generator, device=device).tolist()
        return drawn

    rotations = draw(0 if group.rotations == 4 else 1, group.rotations)
    if not group.mirrors:
        return rotations
    left_right, up_down = group.rotations, group.rotations + group.rotations // 2
    flips = (0, up_down, left_right)
    return [group.product(flips[flip], r) for flip, r in zip(draw(0, 3), rotations, strict=True)]


def act_on_plane(images: Tensor, group: Group, element: int) -> Tensor:
    """Move square images by one element: (..., c, n, n) -> (..., c, n, n).

    Right-angle rotations and mirrors move pixels exactly; other angles interpolate bilinearly, with zeros
    outside the image.

    Raises:
        SettingError: for images that are not square or an element that is not in the group.
    """
    rows, columns = images.shape[-2:]
    if rows != columns:
        raise SettingError(f"images must be square to be rotated in place, not {rows}x{columns} pixels")
    rotation, mirror = group.split(element)
    quarters, rest = divmod(4 * rotation, group.rotations)
    if rest == 0:
        exact = Group(4, mirrors=True)
        return exact.act_on_grid(images, quarters + (exact.rotations if mirror else 0))
    (a, b), (c, d) = group.matrix(group.inverse(element))
    # sampling positions are normalised (x, y) with y down
    theta = torch.tensor([[a, -b, 0.0], [-c, d, 0.0]], dtype=images.dtype, device=images.device)
    stacked = images.reshape(-1, *images.shape[-3:])
    grid = F.affine_grid(theta.expand(len(stacked), 2, 3), list(stacked.shape), align_corners=False)
    sampled = F.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.reshape(images.shape)


def act_on_each(images: Tensor, group: Group, elements: Sequence[int]) -> Tensor:
    """Move every image by its own element: (B, c, n, n) -> (B, c, n, n).

    Raises:
        SettingError: as ``act_on_plane``.
    """
    order: list[int] = []
    moved = []
    for element in sorted(set(elements)):
        members = [i for i, own in enumerate(elements) if own == element]
        order += members
        chosen = images.index_select(0, torch.tensor(members, device=images.device))
        moved.append(act_on_plane(chosen, group, element))
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(moved).index_select(0, torch.tensor(back, device=images.device))


@contextmanager
def tapped(model: nn.Module, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the named modules while the model runs; no hook stays behind, also on error.

    Raises:
        SettingError: for a path that is not a module of the model.
    """
    modules = dict(model.named_modules())
    missing = [path for path in taps if path not in modules]
    if missing:
        raise SettingError(f"tapped module {missing[0]!r} is not in {type(model).__name__}")
    kept = _Outputs()
    with following(model, kept, only=[modules[path] for path in taps]):
        yield kept.by_path


class _Outputs(Watcher):
    def __init__(self) -> None:
        self.by_path: dict[str, Tensor] = {}

    def leave(self, call: Call) -> None:
        self.by_path[call.path] = call.output


def _pooling(
    model: nn.Module, group: Group, ratio: Sequence[int] | None, pool_sizes: Sequence[int] | None
) -> tuple[Sequence[int], Sequence[int] | None]:
    if pool_sizes is not None:
        return pool_sizes, ratio
    if ratio is not None:
        raise SettingError(f"ratio (={list(ratio)}) needs pool_sizes, one per share")
    declared: Sequence[int] | None = getattr(model, "pool_sizes", None)
    if declared is not None:
        return declared, getattr(model, "ratio", None)
    return ((8,) if group.order >= 8 else (4,)), None


def implicit_equivariance_parts(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    group: str,
    reflection: bool = False,
    ratio: Sequence[int] | None = None,
    pool_sizes: Sequence[int] | None = None,
    beta: float,
    generator: torch.Generator | None = None,
) -> ImplicitLoss:
    """The objective, part by part; arguments and errors as in ``implicit_equivariance_loss``."""
    moving = sampling_group(group, reflection)
    if images.dim() != 4 or labels.shape != images.shape[:1]:
        raise SettingError(
            f"images must be (B, c, n, n) and labels (B,), not {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if not beta >= 0:
        raise SettingError(f"beta (={beta}) must not be negative")
    taps: Sequence[str] = getattr(model, "taps", ())
    if not taps:
        raise SettingError(f"{type(model).__name__} declares no taps: set model.taps to the paths of its layers")
    sizes, shares = _pooling(model, moving, ratio, pool_sizes)
    batch = len(images)
    elements = draw_elements(moving, batch, generator)
    both = torch.cat((images, act_on_each(images, moving, elements)))
    with tapped(model, taps if beta else ()) as outputs:
        scores = model(both)
    classification = F.cross_entropy(scores, torch.cat((labels, labels)))
    inverses = [moving.inverse(element) for element in elements]
    equivariance = {}
    for path in taps if beta else ():
        if path not in outputs:
            raise SettingError(f"tapped module {path!r} did not run")
        pooled = channel_max_pool(outputs[path], sizes, shares)
        equivariance[path] = F.mse_loss(pooled[:batch], act_on_each(pooled[batch:], moving, inverses))
    return ImplicitLoss(classification, equivariance, beta, tuple(elements))


def implicit_equivariance_loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    group: str,
    reflection: bool = False,
    ratio: Sequence[int] | None = None,
    pool_sizes: Sequence[int] | None = None,
    beta: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross-entropy over images and transformed copies plus beta times the equivariance errors.

    Shapes: images (B, c, n, n), labels (B,) -> a scalar. The model runs once, on (2B, c, n, n).

    Args:
        model: a network that names its tapped modules in ``model.taps``; their outputs are (2B, c', n', n').
            It is run in the mode it is in, and no hook stays behind, also when it raises.
        images: square images.
        labels: class indices.
        group: ``"R4"`` or ``"R8"``: which rotations the copies may have.
        reflection: whether the copies may also be flipped.
        ratio: shares of the channels for the pool sizes, for example (32, 8, 2, 1).
        pool_sizes: channels per maximum, one per share, for example (8, 4, 2, 1). Left out, they are what the
            network declares; where it declares nothing, 8 for R8 or with reflections and 4 otherwise.
        beta: weight of every tapped layer's error; at 0 this is the plain network's loss on 2B images and
            nothing is tapped.
        generator: for the random elements; with one, the loss is a function of its arguments.

    Raises:
        SettingError: for shapes, sizes or taps that do not fit, or a negative beta.
        UnknownNameError: for another group.
    """
    return implicit_equivariance_parts(
        model, images, labels, group=group, reflection=reflection, ratio=ratio, pool_sizes=pool_sizes, beta=beta,
        generator=generator,
    ).total  # fmt: skip
