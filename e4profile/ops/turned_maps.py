"""The group convolution by acting on the maps instead of on the filters, for small maps under many fields.

The group convolution is equivariant: its output element a is the input acted on by a^-1, convolved with the plain
weight, and acted on by a (He et al. 2021, eq. 3 and 5). With the A acted inputs stacked along the batch, one
convolution by the weight gives all output elements: the same MACs, without the filter bank that is A times as
large as the weight. Where maps are small the bank is what costs: 256 fields on 4 x 4 at batch 1 spend more time
on the page faults of a 38 MB bank and of its gradient than on arithmetic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from e4profile.groups import FiniteGroup

FORWARD_ADVANTAGE = 16
GRADIENT_ADVANTAGE = 4
"""How many times larger than the acted inputs the bank must be: with fewer outputs a convolution is slower per MAC.

In evaluation the bank is cached and only read; in the backward pass its gradient is allocated, written and folded.
"""


def convolve(features: Tensor, weight: Tensor, group: FiniteGroup, *, stride: int, padding: int) -> Tensor:
    """The group convolution without a filter bank.

    Args:
        features: (B, c_in * A, h, h).
        weight: (c_out, c_in, A, k, k).
        group: exact on the grid.
        stride: of the windows, which must sit symmetrically on the map.
        padding: zeros on every side.

    Returns:
        (B, c_out * A, h_out, h_out).
    """
    batch = features.shape[0]
    acted = F.conv2d(_acted_inputs(features, group), weight.flatten(1, 2), None, stride, padding)
    size = acted.shape[-1]
    by_field = acted.view(batch, group.order, -1, size * size).transpose(1, 2).flatten(2)
    index = _positions(acted, group, size, fields=False, inverse=False).to(acted.device)
    return by_field.index_select(2, index).view(batch, -1, size, size)


def weight_gradient(
    gradient: Tensor, features: Tensor, weight: Tensor, group: FiniteGroup, *, stride: int, padding: int
) -> Tensor:
    """The gradient of the weight (c_out, c_in, A, k, k), summed over the group by the batch of one convolution.

    Args:
        gradient: of the output, (B, c_out * A, h_out, h_out).
        features: the input, (B, c_in * A, h, h).
        weight: only its shape is used.
        group: exact on the grid.
        stride: of the windows, which must sit symmetrically on the map.
        padding: zeros on every side.
    """
    batch, _, _, size = gradient.shape
    index = _positions(gradient, group, size, fields=False, inverse=True).to(gradient.device)
    acted = gradient.reshape(batch, -1, group.order * size * size).index_select(2, index)
    acted = acted.view(batch, -1, group.order, size * size).transpose(1, 2).reshape(batch * group.order, -1, size, size)
    flat = weight.flatten(1, 2)
    found = torch.ops.aten.convolution_backward(
        acted, _acted_inputs(features, group), flat, None,
        [stride, stride], [padding, padding], [1, 1], False, [0, 0], 1, [False, True, False],
    )  # fmt: skip
    of_weight: Tensor = found[1]
    return of_weight.view(weight.shape)


def _acted_inputs(features: Tensor, group: FiniteGroup) -> Tensor:
    """(B, c * A, h, h) -> (B * A, c * A, h, h): a^-1 acting on the regular fields, for every a."""
    batch, channels, _, size = features.shape
    positions = group.order * size * size
    index = _positions(features, group, size, fields=True, inverse=True).to(features.device)
    acted = features.reshape(batch, -1, positions).index_select(2, index)
    return acted.view(batch, -1, group.order, positions).transpose(1, 2).reshape(-1, channels, size, size)


_kept: dict[tuple[FiniteGroup, int, bool, bool], Tensor] = {}
_MOST_KEPT = 64


def _positions(acted: Tensor, group: FiniteGroup, size: int, *, fields: bool, inverse: bool) -> Tensor:
    """The positions for a map; the process makes them once, unseen by what follows the storages of a network."""
    key = (group, size, fields, inverse)
    tracer = getattr(acted, "fake_mode", None)
    if tracer is not None and not tracer.allow_non_fake_inputs:
        return _made_positions(*key)
    found = _kept.get(key)
    if found is None:
        with _disable_current_modes():
            found = _made_positions(*key)
        # a fake tensor must not outlive its mode
        if type(found) is Tensor:
            while len(_kept) >= _MOST_KEPT:
                _kept.pop(next(iter(_kept)), None)
            _kept[key] = found
    return found


def _made_positions(group: FiniteGroup, size: int, fields: bool, inverse: bool) -> Tensor:
    """Where each place of the acted maps comes from, for every element of the group one after another.

    With ``fields``, element a acts on the whole regular field, A * h * h places; without, map a of a stack of A maps
    is acted on by a alone.
    """
    # a cache outlives the inference mode in which it may be filled
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        places = torch.arange(group.order * size * size).view(1, group.order, size, size)
        found = []
        for element in group.elements:
            actor = group.inverse(element) if inverse else element
            if fields:
                found.append(group.act_on_field(places, actor).flatten())
            else:
                found.append(group.act_on_grid(places[0, element], actor).flatten())
        return torch.cat(found)
