"""Which implementation serves which tensor. Triton is imported only when it is going to be used."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any, Protocol

import torch
from torch.autograd import forward_ad

from e4profile.errors import SettingError
from e4profile.ops import generated, shifted

IMPLEMENTATIONS = ("auto", "cpu", "reference", "triton")


class Kernels(Protocol):
    """The aggregation and its gradients."""

    def forward(self, stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
        """(B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out)."""
        ...

    def backward(  # noqa: PLR0917
        self,
        grad: torch.Tensor,
        stencils: torch.Tensor | None,
        values: torch.Tensor | None,
        size: Sequence[int],
        kernel: int,
        stride: int,
    ) -> tuple[Any, Any]:
        """The gradient of the stencils where values are given, and that of the values where stencils are.

        ``size`` is that of the values, (h, w). What is not asked for is None.
        """
        ...


class GeneratedKernels(Protocol):
    """Generator and aggregation together."""

    def forward(  # noqa: PLR0917
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        values: torch.Tensor,
        kernel: int,
        stride: int,
    ) -> torch.Tensor:
        """Aggregate with the stencils weight · hidden + bias."""
        ...

    def backward(
        self,
        grad: torch.Tensor,
        tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
        kernel: int,
        stride: int,
        needs: Sequence[bool],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Gradients of hidden, weight, bias and values, those that are needed."""
        ...


def is_transformed(*tensors: torch.Tensor) -> bool:
    """Whether a transform of ``torch.func`` (``vmap``, ``grad``, ``jvp``) is active, or a tensor has a tangent.

    An operator of its own has no rules for them: most then raise, and ``jvp`` leaves its derivative out without a word.
    """
    if torch._C._are_functorch_transforms_active():
        return True
    # a compiler cannot ask for tangents
    return not torch.compiler.is_compiling() and any(
        forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    )


def triton_reason(tensor: torch.Tensor) -> str | None:
    """Why Triton cannot serve a tensor, or None if it can: on CUDA, or anywhere in Triton's interpreter."""
    if importlib.util.find_spec("triton") is None:
        return "the triton package is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return interpreter_reason()
    if not tensor.is_cuda:
        return f"the tensors are on {tensor.device}, not on a CUDA device"
    return None


def interpreter_reason() -> str | None:
    """Why the installed Triton's interpreter cannot be trusted, or None if it can."""
    triton, numpy = version("triton"), version("numpy")
    if _release(triton) < (3, 2) and _release(numpy) >= (2, 0):
        return f"the interpreter of triton {triton} adds to pointers wrongly with numpy {numpy}"
    return None


def _release(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _uses_triton(implementation: str, tensor: torch.Tensor) -> bool:
    if implementation == "triton":
        reason = triton_reason(tensor)
        if reason is not None:
            raise SettingError(f"implementation (='triton') cannot run: {reason}; use 'auto' or 'cpu'")
        return True
    return implementation == "auto" and tensor.is_cuda and triton_reason(tensor) is None


def kernels_for(implementation: str, tensor: torch.Tensor) -> Kernels:
    """The module with the aggregation and its gradients.

    Raises:
        SettingError: when Triton is asked for and cannot run.
    """
    if _uses_triton(implementation, tensor):
        from e4profile.ops import triton_kernels

        return triton_kernels
    return shifted


def generated_kernels_for(implementation: str, tensor: torch.Tensor) -> GeneratedKernels:
    """The module with forward and backward of generator and aggregation together.

    Raises:
        SettingError: when Triton is asked for and cannot run.
    """
    if _uses_triton(implementation, tensor):
        from e4profile.ops import generated_triton

        return generated_triton
    return generated


def irrep_kernels_for(features: torch.Tensor) -> ModuleType | None:
    """The module with the convolution in the irrep basis in Triton, or None where PyTorch's operators run it.

    Those run on stand-ins without values, and wherever a mode watches what is dispatched: a counter sees no kernel.
    """
    if type(features) not in (torch.Tensor, torch.nn.Parameter) or not features.is_cuda:
        return None
    if torch._C._len_torch_dispatch_stack() or torch.version.hip or triton_reason(features) is not None:
        return None
    if torch.cuda.get_device_capability(features.device) < (8, 0):
        return None
    from e4profile.ops import irrep_kernels

    return irrep_kernels
