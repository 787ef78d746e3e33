"""Shapes of the aggregation: what fits together, what comes out, and how many MACs it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from e4profile.errors import SettingError

AXES = "stencils (B, A, s, k·k, h_out, w_out) and values (B, s, c, A, h, w)"


def output_size(size: int, stride: int) -> int:
    """Positions along one axis: (size − 1) // stride + 1, the zero padding being (k − 1)/2 whatever k."""
    return (size - 1) // stride + 1


def check_kernel_and_stride(kernel: int, stride: int) -> None:
    """Refuse a kernel that is not odd and positive, and a stride that is not positive.

    Raises:
        SettingError: naming the value.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd and positive")
    if stride < 1:
        raise SettingError(f"stride (={stride}) must be a positive integer")


def check_aggregate(stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> None:
    """Refuse stencils and values that do not fit together.

    Shapes: stencils (B, A, s, k·k, h_out, w_out), values (B, s, c, A, h, w).

    Raises:
        SettingError: naming the sizes, dtypes or devices that disagree.
    """
    check_kernel_and_stride(kernel, stride)
    check_alike(stencils=stencils, values=values)
    if stencils.dim() != 6 or values.dim() != 6:
        raise SettingError(f"expected {AXES}, got {tuple(stencils.shape)} and {tuple(values.shape)}")
    B, s, _, A, h, w = values.shape
    wanted = (B, A, s, kernel * kernel, output_size(h, stride), output_size(w, stride))
    if tuple(stencils.shape) != wanted:
        raise SettingError(
            f"stencils {tuple(stencils.shape)} do not fit values {tuple(values.shape)} with kernel "
            f"(={kernel}) and stride (={stride}): expected {wanted}"
        )


def check_stencil_gradient(grad: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> None:
    """Refuse an output gradient (B, s, c, A, h_out, w_out) that does not fit values (B, s, c, A, h, w).

    Raises:
        SettingError: naming the sizes, dtypes or devices that disagree.
    """
    check_kernel_and_stride(kernel, stride)
    check_alike(grad=grad, values=values)
    if values.dim() != 6 or list(grad.shape) != output_shape(values.shape, stride):
        raise SettingError(
            f"grad {tuple(grad.shape)} does not fit values {tuple(values.shape)} with stride (={stride})"
        )


def check_value_gradient(  # noqa: PLR0917
    grad: torch.Tensor, stencils: torch.Tensor, h: int, w: int, kernel: int, stride: int
) -> None:
    """Refuse an output gradient (B, s, c, A, h_out, w_out) that does not fit stencils and values of h×w.

    Raises:
        SettingError: naming the sizes, dtypes or devices that disagree.
    """
    check_kernel_and_stride(kernel, stride)
    check_alike(grad=grad, stencils=stencils)
    if (
        grad.dim() != 6
        or list(stencils.shape) != stencils_shape(grad.shape, kernel)
        or list(grad.shape[4:]) != [output_size(h, stride), output_size(w, stride)]
    ):
        raise SettingError(
            f"grad {tuple(grad.shape)} does not fit stencils {tuple(stencils.shape)} with h (={h}), "
            f"w (={w}), kernel (={kernel}) and stride (={stride})"
        )


def check_generate_aggregate(  # noqa: PLR0917
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, values: torch.Tensor, kernel: int, stride: int
) -> None:
    """Refuse a generator's input, weight and bias that do not fit together or do not fit the values.

    Shapes: hidden (B, A, c_mid, h_out, w_out), weight (A, s·k², c_mid), bias (A, s·k²),
    values (B, s, c, A, h, w).

    Raises:
        SettingError: naming the sizes, dtypes or devices that disagree.
    """
    check_kernel_and_stride(kernel, stride)
    check_alike(hidden=hidden, weight=weight, bias=bias, values=values)
    if hidden.dim() != 5 or weight.dim() != 3 or values.dim() != 6:
        raise SettingError(
            "expected hidden (B, A, c_mid, h_out, w_out), weight (A, s·k·k, c_mid) and values "
            f"(B, s, c, A, h, w), got {tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(values.shape)}"
        )
    B, s, _, A, h, w = values.shape
    c_mid = hidden.shape[2]
    wanted = {
        "hidden": (hidden, (B, A, c_mid, output_size(h, stride), output_size(w, stride))),
        "weight": (weight, (A, s * kernel * kernel, c_mid)),
        "bias": (bias, (A, s * kernel * kernel)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise SettingError(
                f"{name} {tuple(tensor.shape)} does not fit values {tuple(values.shape)} with kernel "
                f"(={kernel}) and stride (={stride}): expected {shape}"
            )


def check_alike(**tensors: torch.Tensor) -> None:
    """Refuse tensors that are not floating point, or not all of one dtype and on one device.

    Raises:
        SettingError: naming the dtypes or devices.
    """
    names = " and ".join(tensors)
    dtypes = [tensor.dtype for tensor in tensors.values()]
    if any(dtype != dtypes[0] or not dtype.is_floating_point for dtype in dtypes):
        got = ", ".join(str(dtype) for dtype in dtypes)
        raise SettingError(f"{names} must have one floating-point dtype, got {got}")
    devices = [tensor.device for tensor in tensors.values()]
    if any(device != devices[0] for device in devices):
        got = ", ".join(str(device) for device in devices)
        raise SettingError(f"{names} must be on one device, got {got}")


def output_shape(values_shape: Sequence[int], stride: int) -> list[int]:
    """(B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out)."""
    return [*values_shape[:4], output_size(values_shape[4], stride), output_size(values_shape[5], stride)]


def stencils_shape(output_shape: Sequence[int], kernel: int) -> list[int]:
    """(B, s, c, A, h_out, w_out) -> (B, A, s, k·k, h_out, w_out)."""
    B, s, _, A, h_out, w_out = output_shape
    return [B, A, s, kernel * kernel, h_out, w_out]


def aggregation_macs(values_shape: Sequence[int], kernel: int, stride: int = 1) -> int:
    """MACs of one aggregation: k² per output element, padding included.

    The same number again is needed for the gradient of the stencils, and again for that of the values.

    Args:
        values_shape: (B, s, c, A, h, w).
        kernel: k, odd.
        stride: of the output positions.
    """
    return math.prod(output_shape(values_shape, stride)) * kernel * kernel


def generate_aggregate_macs(
    hidden_shape: Sequence[int], values_shape: Sequence[int], kernel: int, stride: int = 1
) -> dict[str, int]:
    """MACs of generating the stencils and of aggregating with them, apart.

    Args:
        hidden_shape: (B, A, c_mid, h_out, w_out).
        values_shape: (B, s, c, A, h, w).
        kernel: k, odd.
        stride: of the output positions.

    Returns:
        {"generator": s·k²·c_mid per group element and position, "aggregation": see `aggregation_macs`}.
    """
    return {
        "generator": math.prod(hidden_shape) * values_shape[1] * kernel * kernel,
        "aggregation": aggregation_macs(values_shape, kernel, stride),
    }


def generate_aggregate_backward_macs(
    hidden_shape: Sequence[int],
    values_shape: Sequence[int],
    kernel: int,
    stride: int = 1,
    needs: Sequence[bool] = (True, True, True, True),
) -> dict[str, int]:
    """MACs of the gradients, the stencils being generated anew where the values' gradient needs them.

    Args:
        hidden_shape: (B, A, c_mid, h_out, w_out).
        values_shape: (B, s, c, A, h, w).
        kernel: k, odd.
        stride: of the output positions.
        needs: which gradients: of hidden, weight, bias and values. The bias's takes additions only.

    Returns:
        {"generator": the gradients through it, "generator again": the repetition, "aggregation": both its
        gradients}.
    """
    forward = generate_aggregate_macs(hidden_shape, values_shape, kernel, stride)
    hidden, weight, bias, values = needs
    return {
        "generator": forward["generator"] * (hidden + weight),
        "generator again": forward["generator"] * values,
        "aggregation": forward["aggregation"] * ((hidden or weight or bias) + values),
    }
