"""The E4 aggregation as one PyTorch operator: each position's own stencil times its neighbourhood.

out[b,s,c,a,y,x] = Σ_{dy,dx} stencils[b,a,s,dy·k+dx,y,x] · values[b,s,c,a, y·stride+dy−p, x·stride+dx−p], with
zero padding p = (k−1)/2. He et al. 2021, section 4.1, eq. 12.
"""

from __future__ import annotations

import torch

from e4profile.errors import UnknownNameError
from e4profile.ops.choice import IMPLEMENTATIONS, is_transformed
from e4profile.ops.operators import aggregate_operator
from e4profile.ops.reference import aggregate_reference
from e4profile.ops.shapes import check_aggregate

# Asked once: PyTorch 2.4 cannot ask while compiling. Elsewhere, as on the meta device, there is no autocast.
_AUTOCAST_DEVICES = frozenset(
    device for device in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu") if torch.amp.is_autocast_available(device)
)


def aggregate(
    stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int = 1, implementation: str = "auto"
) -> torch.Tensor:
    """Apply to every value's neighbourhood the stencil of its position, slice and group element.

    Under autocast both inputs are cast to its dtype, as for a convolution; the halves are summed in float32. Inside
    the transforms of ``torch.func`` and under forward-mode differentiation the reference runs.

    Shapes: (B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out), contiguous, where
    c is channels per slice, so that the field layout (B, s·c·A, h, w), channel = field·A + element, is a
    view.

    Args:
        stencils: already acted on by each group element (rotated, mirrored).
        values: the encoded field.
        kernel: k, odd.
        stride: h_out = (h − 1) // stride + 1; w_out by the same rule.
        implementation: "reference" (unfold·multiply·sum), "cpu" (shifted multiply-adds in plain PyTorch, any
            device), "triton" (CUDA), or "auto": the best there is for the device.

    Raises:
        SettingError: naming the values, when shapes, dtypes or devices do not fit or the kernel is even.
        UnknownNameError: for an implementation that does not exist.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UnknownNameError("implementation", implementation, IMPLEMENTATIONS)
    stencils, values = autocast(stencils, values)
    if implementation == "reference" or is_transformed(stencils, values):
        check_aggregate(stencils, values, kernel, stride)
        return aggregate_reference(stencils, values, kernel, stride)
    result: torch.Tensor = aggregate_operator(stencils, values, kernel, stride, implementation)
    return result


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that autocast casts to on a device, or None where it is off."""
    is_on = device.type in _AUTOCAST_DEVICES and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if is_on else None


def autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast to autocast's dtype where it is on for the device; as for a convolution, float64 is left alone."""
    dtype = autocast_dtype(tensors[0].device)
    if dtype is None:
        return tensors
    return tuple(t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors)
