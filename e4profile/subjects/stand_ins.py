"""Tensors without values, on the device of those that they replace: what runs on them keeps what a device would keep.

On the meta device PyTorch runs attention, recurrent layers and norms otherwise than a processor does, so that autograd
keeps other tensors there. These say of themselves that they are on a processor, and run as on one; where its kernels
return what PyTorch's own stand-ins do not, the output is corrected here.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from e4profile.layers.filter_bank import STAND_IN_FOR
from e4profile.subjects.meta_outputs import run

Kernels: TypeAlias = Literal["cpu", "cuda"]
KERNELS: tuple[Kernels, ...] = ("cpu", "cuda")

_HALVES = (torch.float16, torch.bfloat16)
_FLASH_HEAD = 256  # the largest head that CUDA's flash kernel takes
_MATRICES = 4  # (B, heads, tokens, width)
_PAGE_BYTES = 4096
_CACHE_LINE_BYTES = 64


def is_stand_in(tensor: Tensor) -> bool:
    """Whether a tensor has no values."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


class _Type(type):
    """``type`` as a forward on stand-ins sees it: they are of the class of those that they replace."""

    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        if len(args) != 1 or not isinstance(args[0], FakeTensor):
            return type(*args, **keywords)
        return nn.Parameter if isinstance(args[0], nn.Parameter) else Tensor

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, type)


class _NoFake(type):
    """The class of stand-ins as a forward sees it: nothing is one, save to PyTorch."""

    def __instancecheck__(cls, value: object) -> bool:
        asking = str(sys._getframe(1).f_globals.get("__name__"))
        return asking.partition(".")[0] == "torch" and isinstance(value, FakeTensor)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is FakeTensor

    def __hash__(cls) -> int:
        return hash(FakeTensor)


_SEEN_TYPE, _SEEN_FAKE = _Type("type", (), {}), _NoFake("FakeTensor", (), {})


def seen_class(name: str) -> Any:
    """What a forward on stand-ins finds under the name of ``type`` or of their own class."""
    return _SEEN_TYPE if name == "type" else _SEEN_FAKE


class StandIns:
    """Makes stand-ins, and lets them run as the kernels of a device would.

    Args:
        kernels: whose kernels are assumed: "cpu", or "cuda", which needs no such device.
        device: that they say they are on, in place of the meta device.
    """

    def __init__(self, kernels: Kernels = "cpu", device: torch.device | None = None) -> None:
        self._kernels = kernels
        self._device = torch.device("cpu") if device is None or device.type == "meta" else device
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._corrected = _Corrected(kernels)
        self._attention: Counter[str] = Counter()

    def of(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """One of the same shape and strides, a leaf."""
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
            return self._mode.from_tensor(tensor.detach())
        shape = torch.empty_like(tensor, device="meta", dtype=dtype or tensor.dtype, requires_grad=False)
        found: Tensor = FakeTensor(self._mode, shape, self._device if tensor.is_meta else tensor.device)
        if isinstance(tensor, nn.Parameter):
            found = nn.Parameter(found, tensor.requires_grad)
            setattr(found, STAND_IN_FOR, self._kernels)
        return found

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let operators on stand-ins, and on tensors with values beside them, run without values."""
        attention, dropout = F.scaled_dot_product_attention, F.dropout
        classes: Any = torch._subclasses

        @functools.wraps(attention)
        def attend(query: Any, *args: Any, **keywords: Any) -> Any:
            own = attention if not isinstance(query, FakeTensor) else self._attend
            return own(query, *args, **keywords)

        @functools.wraps(dropout)
        def drop(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            if isinstance(input, FakeTensor) and self._kernels == "cuda" and training and 0 < p < 1 and not inplace:
                return torch.native_dropout(input, p, True)[0]
            return dropout(input, p, training, inplace)

        from e4profile.subjects.told_device import ToldDevice

        self._plain = attention
        F.scaled_dot_product_attention, F.dropout = attend, drop
        classes.FakeTensor = _SEEN_FAKE
        try:
            # somebody's default device would give what a forward makes another than its inputs
            storages = ToldDevice(self._device).seen_of_storages()
            with torch.device(self._device), self._mode, self._corrected, storages:
                yield
        finally:
            F.scaled_dot_product_attention, F.dropout = attention, dropout
            classes.FakeTensor = FakeTensor

    @property
    def notes(self) -> tuple[str, ...]:
        """Which kernels were assumed, a sentence each; none for a network whose operators have one only."""
        # seen as an operator: a forward may have imported the function itself
        ran = self._attention + Counter(flash=self._corrected.flash)
        said = ", ".join(f"{kernel} kernel ({times} call{'s' * (times != 1)})" for kernel, times in sorted(ran.items()))
        notes = [f"attention is assumed to run as on {self._kernels}: {said}"] if said else []
        if self._corrected.recurrent and self._kernels == "cuda":
            notes.append("recurrent layers are assumed to run as on cpu: what cuDNN keeps for them is not known")
        return tuple(notes)

    def _attend(  # noqa: PLR0917  (as PyTorch's)
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if self._kernels == "cpu":
            before = self._corrected.flash
            more = {"enable_gqa": True} if enable_gqa else {}
            out: Tensor = self._plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
            self._attention["math"] += self._corrected.flash == before
            return out
        kernel = cuda_attention(query, key, value, attn_mask, is_causal=is_causal)
        self._attention[kernel] += 1
        return _CUDA_ATTENTION[kernel](query, key, value, attn_mask, p=dropout_p, causal=is_causal, scale=scale)


def cuda_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, is_causal: bool) -> str:
    """The kernel of scaled dot-product attention that PyTorch chooses on CUDA: flash, efficient, cudnn or math.

    As on compute capability 8.0 and above, of the kernels that ``torch.nn.attention.sdpa_kernel`` leaves enabled.
    """
    width, value_width, itemsize = query.shape[-1], value.shape[-1], query.dtype.itemsize
    dense = all(one.dim() == _MATRICES and one.stride(-1) == 1 and one.numel() for one in (query, key, value))
    square = not is_causal or query.shape[-2] == key.shape[-2]
    half, alike = query.dtype in _HALVES, width == value_width
    enabled = torch.backends.cuda
    if enabled.flash_sdp_enabled() and dense and half and alike and square and mask is None and width <= _FLASH_HEAD:
        return "flash"
    heads = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    aligned = not (width * itemsize % 16 or value_width * itemsize % 16)
    if enabled.mem_efficient_sdp_enabled() and dense and heads and aligned and (half or query.dtype == torch.float32):
        return "efficient"
    trained = mask is not None and mask.requires_grad
    cudnn = dense and heads and half and aligned and width <= _FLASH_HEAD // 2 and square and not trained
    return "cudnn" if enabled.cudnn_sdp_enabled() and cudnn else "math"


def _flash(q: Tensor, k: Tensor, v: Tensor, _: Tensor | None, *, p: float, causal: bool, scale: float | None) -> Tensor:
    width = q.shape[-1]
    scale = width**-0.5 if scale is None else scale
    # heads are padded to a multiple of 8
    q, k, v = (F.pad(one, (0, -width % 8)) if width % 8 else one for one in (q, k, v))
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, p, causal, False, scale=scale)[0]
    return out[..., :width]


def _with_bias(operator: str, *more: Any) -> Callable[..., Tensor]:
    def attend(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, p: float, causal: bool, scale: float | None
    ) -> Tensor:
        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, 0.0) if mask.dtype == torch.bool else mask
            bias = bias.expand(*q.shape[:-1], k.shape[-2])
        run = getattr(torch.ops.aten, operator)
        out: Tensor = run(q, k, v, bias, q.requires_grad or k.requires_grad, p, causal, *more, scale=scale)[0]
        return out

    return attend


def _math(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, p: float, causal: bool, scale: float | None
) -> Tensor:
    gqa = q.dim() >= _MATRICES and q.shape[-3] != k.shape[-3]
    out: Tensor = torch.ops.aten._scaled_dot_product_attention_math(
        q, k, v, mask, p, causal, scale=scale, enable_gqa=gqa
    )[0]
    return out


_CUDA_ATTENTION: Mapping[str, Callable[..., Tensor]] = {
    "flash": _flash,
    "efficient": _with_bias("_scaled_dot_product_efficient_attention"),
    "cudnn": _with_bias("_scaled_dot_product_cudnn_attention", False),
    "math": _math,
}


class _Corrected(TorchDispatchMode):
    """Gives outputs of some operators the dtype and the size that the kernels give them, and sees which ran."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kernels = kernels
        self.flash = 0
        self.recurrent = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        if func is torch.ops.prim.device.default:  # asked very often
            return func(*args)
        out = run(func, args, kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        if name in ("native_layer_norm", "native_group_norm", "native_batch_norm"):
            found, normed = self._statistics(name, args), out[0]
            if name == "native_group_norm" and self._kernels == "cpu":
                normed = torch.empty_like(args[0], memory_format=suggest_memory_format(args[0]))
            return (normed, *(one if one.dtype == found else torch.empty_like(one, dtype=found) for one in out[1:]))
        if name == "_scaled_dot_product_flash_attention_for_cpu":
            self.flash += 1
        elif name == "_embedding_bag" and out[1].numel():
            # one place more than it has rows, cut off afterwards
            return (out[0], out[1].new_empty(out[1].shape[0] + 1)[:-1], *out[2:])
        elif name in ("im2col", "col2im") and out.numel() < args[0].numel():
            # made as large as the input, then cut
            return args[0].new_empty(args[0].numel())[: out.numel()].view(out.shape)
        elif isinstance(out, FakeTensor) and 1 in out.shape and torch.Tag.pointwise in func.tags:
            out = _strided(func, args, kwargs or {}, out)
        elif name == "mkldnn_rnn_layer":
            self.recurrent += 1
            kept = _lstm_workspace_bytes(func, args) if torch.is_grad_enabled() else 0
            return (*out[:3], out[3].new_empty(kept))
        return out

    def _statistics(self, name: str, args: tuple[Any, ...]) -> torch.dtype:
        """The dtype of a norm's mean and deviation."""
        features: Tensor = args[0]
        if features.dtype not in _HALVES:
            return features.dtype
        if self._kernels == "cuda" and name != "native_group_norm":
            return torch.float32
        others = args[1:] if name != "native_layer_norm" else args[2:]
        mixed = any(isinstance(one, Tensor) and one.dtype != features.dtype for one in others)
        return torch.float32 if mixed else features.dtype


def _strided(func: Any, args: tuple[Any, ...], keywords: Mapping[str, Any], out: Tensor) -> Tensor:
    """An output with the strides that a kernel gives its axes of size 1: a norm asks them for the memory format."""
    inputs = [one for one in (*args, *keywords.values()) if isinstance(one, Tensor)]
    sizes = [size for one in inputs for size in (*one.shape, *one.stride())]
    if any(one is out for one in inputs) or any(not isinstance(size, int) for size in sizes):
        return out
    if all(one.is_contiguous() for one in inputs):
        return out

    def without_values(one: Any, kind: str) -> Any:
        if isinstance(one, Tensor):
            return torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="meta")
        # a number is a tensor of another shape to a processor
        return torch.empty((), device="meta") if kind == "Tensor" else one

    kinds = {one.name: str(one.type) for one in func._schema.arguments}
    given = {**dict(zip(kinds, args, strict=False)), **keywords}
    with no_dispatch():
        strides = func(**{name: without_values(one, kinds[name]) for name, one in given.items()}).stride()
    return out if strides == out.stride() else out.as_strided(out.shape, strides, out.storage_offset())


def _lstm_workspace_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """What oneDNN keeps of one layer of an LSTM: gates, states and what backward writes of them."""
    (tokens, batch, width), hidden = args[0].shape, args[5].shape[-1]
    if args[0].dtype != torch.float32:
        # its layout is not known: the layer runs
        with no_dispatch():
            made = (torch.zeros(one.shape, dtype=one.dtype) if isinstance(one, Tensor) else one for one in args)
            return int(func(*made)[3].numel())

    def padded(size: int) -> int:
        # to cache lines, off the multiples of 256 elements
        line = _CACHE_LINE_BYTES // 4
        size = -(-size // line) * line
        return size + line * (size % 256 == 0)

    states = 2 * (tokens + 1) * batch
    parts = (
        tokens * batch * padded(4 * hidden),
        tokens * batch * padded(hidden),
        *(states * padded(max(width, hidden)) for _ in ("layer", "iteration", "cell")),
        *(states * hidden for _ in ("layer", "iteration")),
    )
    return sum(-(-4 * part // _PAGE_BYTES) * _PAGE_BYTES for part in parts)
