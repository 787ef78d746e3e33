"""Expanding a layer's weights into an ordinary convolution's filters: one gather, cached in evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.layers.base import WindowedConv2d
from e4profile.layers.constants import uniform
from e4profile.layers.terms import Term
from e4profile.ops.aggregation import autocast_dtype
from e4profile.ops.choice import is_transformed

STAND_IN_FOR = "e4profile_stand_in_for"
"""The attribute of a weight without values that is lent for a measurement: whose kernels it assumes, cpu or cuda."""


class FilterBankLayer(WindowedConv2d):
    """A convolution whose dense filters are a gather of its weights.

    In evaluation mode without gradients the filters are computed once and kept until the weight changes, or the
    dtype of autocast. Tracers, compilers and the transforms of ``torch.func`` see them computed.
    A change is noticed by the weight's identity, memory, version counter and, on CPU, by its values, because
    writing through ``weight.data`` leaves the version counter alone. On an accelerator comparing values would
    force a synchronisation: after writing through ``.data`` there, call ``clear_filter_cache()``.
    """

    weight: nn.Parameter
    filter_index: Tensor
    filter_shape: tuple[int, int, int, int]

    def _set_filters(
        self, weight_shape: tuple[int, ...], index: Callable[[], Tensor], filter_shape: tuple[int, int, int, int],
        *kernels: int,
    ) -> None:  # fmt: skip
        """Create the weight (c_out, ...) and the index of each output field's filters into its weights."""
        self.weight = uniform(weight_shape, math.prod(weight_shape[1:]))
        self.filter_shape = filter_shape
        self.add_table("filter_index", index, *kernels)
        self.clear_filter_cache()

    def _tap_axes(self, filters: Term) -> tuple[int, ...]:
        """The axes of the weight's taps: k x k, or one of those that the group does not move out of the kernel.

        The others are 0 in the dense filters, which stay k x k, and no parameters.

        Args:
            filters: of so many filters.
        """
        taps, kernel = self.group.taps(self.kernel), self.kernel
        if len(taps) == kernel**2:
            return kernel, kernel
        self.params = {**self.params, "weight": filters * len(taps)}
        outside = [tap not in set(taps) for tap in range(kernel**2)]
        self.add_table("masked_taps", lambda: torch.tensor(outside).view(kernel, kernel))
        return (len(taps),)

    def clear_filter_cache(self) -> None:
        """Forget the cached filters."""
        self._cached_filters: list[Tensor] | None = None
        self._cached_weight: Tensor | None = None
        self._cache_key: tuple[Any, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle of the layer takes along: not the cache, A times as large as the weight."""
        cache = dict.fromkeys(("_cached_filters", "_cached_weight", "_cache_key"))
        return {**self.__dict__, **cache}

    def train(self, mode: bool = True) -> FilterBankLayer:
        """Set the mode; the cache lives in evaluation mode only."""
        if mode:
            self.clear_filter_cache()
        super().train(mode)
        return self

    def filter_values(self) -> Tensor:
        """What the filters are gathered from, by output field (c_out, ...): the weight itself."""
        return self.weight

    def expand_filters(self) -> Tensor:
        """The dense filters (c_out * A, c_in or c_in * A, k, k), differentiable in the weight."""
        flat = self.filter_values().flatten(1)
        filters = flat.index_select(1, self.filter_index).view(self.filter_shape)
        masked_taps = self._buffers.get("masked_taps")
        return filters if masked_taps is None else filters.masked_fill_(masked_taps, 0)

    def filters(self) -> Tensor:
        """The dense filters; the caller's own, which may be written to."""
        filters = self._filters()
        return filters.clone() if any(filters is one for one in self._cached_filters or ()) else filters

    def _filters(self) -> Tensor:
        """The dense filters, from the cache where that is safe."""
        return self._kept(lambda: [self.expand_filters()], [self.filter_shape])[0]

    def _kept(self, make: Callable[[], list[Tensor]], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """What is made of the weight, from the cache where that is safe.

        Args:
            make: makes it, differentiably.
            shapes: of what it makes; nothing else that is made of this weight has the same.
        """
        weight = self.weight
        needs_graph = torch.is_grad_enabled() and weight.requires_grad
        traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        if self.training or needs_graph or traced:
            return make()
        if weight.is_meta:
            # no values to keep: a stand-in for what evaluation finds in its cache, at the same cost, none
            return [weight.new_empty(shape) for shape in shapes]
        # whose kernels a stand-in assumes; it stays in place while it is lent
        lent = getattr(weight, STAND_IN_FOR, None)
        # any other fake tensor that is computed from others may lie where its predecessor lay
        if (lent is None and type(weight) is not nn.Parameter) or is_transformed(weight):
            return make()
        version = None if weight.is_inference() else weight._version
        # filters made in inference mode cannot be saved for a backward pass to the input
        modes = torch.is_inference_mode_enabled(), autocast_dtype(weight.device)
        place = None if lent else weight.data_ptr()
        key = (id(weight), place, version, weight.dtype, weight.device, modes, tuple(shapes))
        if self._cached_filters is None or key != self._cache_key or (not lent and self._values_moved(weight)):
            self._cached_filters = [one.detach() for one in make()]
            self._cached_weight = weight.detach().clone() if (lent or weight.device.type) == "cpu" else None
            self._cache_key = key
        return self._cached_filters

    def _values_moved(self, weight: Tensor) -> bool:
        return self._cached_weight is not None and not torch.equal(weight, self._cached_weight)
