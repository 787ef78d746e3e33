"""The aggregation written as unfold·multiply·sum: slow, plain, differentiated by PyTorch; the oracle.

Nothing here is used by the fast operators, and nothing of theirs is used here. He et al. 2021, eq. 12.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def aggregate_reference(stencils: torch.Tensor, values: torch.Tensor, kernel: int, stride: int = 1) -> torch.Tensor:
    """Unfold the values, multiply by the stencils, sum over the k² taps.

    The halves are accumulated in float32, as the operators do.

    Shapes: (B, A, s, k·k, h_out, w_out), (B, s, c, A, h, w) -> (B, s, c, A, h_out, w_out).
    """
    B, A, s, taps, h_out, w_out = stencils.shape
    c, (h, w) = values.shape[2], values.shape[4:]
    dtype = values.dtype
    if dtype in (torch.float16, torch.bfloat16):
        stencils, values = stencils.float(), values.float()
    if B == 0:
        # unfold refuses an empty batch; the sums keep the result in the graph.
        return (values.new_zeros(B, s, c, A, h_out, w_out) + stencils.sum() + values.sum()).to(dtype)
    columns = F.unfold(values.reshape(B, s * c * A, h, w), kernel, padding=(kernel - 1) // 2, stride=stride)
    columns = columns.reshape(B, s, c, A, taps, h_out, w_out)
    weights = stencils.permute(0, 2, 1, 3, 4, 5).unsqueeze(2)
    return (weights * columns).sum(dim=4).to(dtype)
