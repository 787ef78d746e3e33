"""Fresh memory in large pages: one page fault per 2 MiB instead of one per 4 KiB."""

from __future__ import annotations

import ctypes
import mmap
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_ADVICE = getattr(mmap, "MADV_HUGEPAGE", None)
_WORTHWHILE_BYTES = 4 << 20


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """``like.new_empty(shape)``, for which the kernel is asked for large pages where it knows them.

    Only large tensors on the CPU under Linux are asked for; the answer changes nothing but the time of first use.
    """
    tensor = like.new_empty(shape)
    size = tensor.numel() * tensor.element_size()
    advise = _madvise()
    # a stand-in says that it is on the CPU, and has no memory
    if advise is None or tensor.device.type != "cpu" or size < _WORTHWHILE_BYTES or type(tensor) is not torch.Tensor:
        return tensor
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE - start
    # a refusal leaves small pages, which are as good but slower
    advise(ctypes.c_void_p(start), ctypes.c_size_t(length), _ADVICE)
    return tensor


@lru_cache(maxsize=1)
def _madvise() -> Any:
    if _ADVICE is None:
        return None
    return getattr(ctypes.CDLL(None), "madvise", None)
