"""Index tables that follow from a layer's arguments: in no state dict, and there whenever the layer has values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from e4profile.groups import check_kernel
from e4profile.layers.drawn import is_drawing


def shifted(table: Any, copies: int, step: int) -> Tensor:
    """The flat index of ``copies`` of a table (n, ...) side by side (n, copies, ...), each ``step`` further along.

    On the meta device it is made without arithmetic: torch would do that with kernels written in Python, and import
    its compiler for the first of them.
    """
    one = torch.as_tensor(table, device="cpu")
    # before torch 2.5 get_default_device() does not see a ``with torch.device(...)`` around it
    device = torch.empty(0).device
    if device.type == "meta":
        return torch.empty(one.numel() * copies, dtype=one.dtype)
    places = step * torch.arange(copies).view(-1, *[1] * (one.dim() - 1))
    return (one.to(device)[:, None] + places).flatten()


def uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    """A new weight with values within 1 / sqrt(fan_in) of zero; without values where the default device has none."""
    weight = nn.Parameter(torch.empty(shape))
    if not weight.is_meta:
        bound = 1 / math.sqrt(fan_in)
        nn.init.uniform_(weight, -bound, bound)
    return weight


class ConstantTables(nn.Module):
    """A module whose non-persistent buffers are computed from its constructor's arguments.

    A network made on the meta device has them there, and neither ``load_state_dict(assign=True)`` nor ``to_empty``
    would give them values: they are computed anew as soon as the parameters have some.
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Remember the arguments."""
        module = super().__new__(cls)
        module.__dict__["_made_with"] = (arguments, keywords)
        return module

    def add_table(self, name: str, make: Callable[[], Tensor], *kernels: int) -> None:
        """Register a table of how the group acts on kernels of some sizes; a layer that is drawn has none.

        Raises:
            SettingError: for a kernel on which no group acts.
        """
        for kernel in kernels:
            check_kernel(kernel)
        self.register_buffer(name, None if is_drawing() else make(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        lacked = self._lacks_tables()

        def applied(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except RuntimeError as error:
                # ``to(memory_format=torch.channels_last)`` is about images, not about weights of five axes
                if tensor.dim() != 5 or "rank 4" not in str(error):
                    raise
                return fn(tensor.flatten(2)).view(tensor.shape)

        super()._apply(applied, recurse)  # type: ignore[no-untyped-call]
        if lacked:
            self._restore_tables()
        return self

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        if self._lacks_tables():
            self._restore_tables()

    def _lacks_tables(self) -> bool:
        tables = (self._buffers.get(name) for name in self._non_persistent_buffers_set)
        return any(table is not None and table.is_meta for table in tables)

    def _restore_tables(self) -> None:
        parameter = next(self.parameters(recurse=False), None)
        if parameter is None or parameter.is_meta:
            return
        arguments, keywords = self.__dict__["_made_with"]
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            tables = dict(type(self)(*arguments, **keywords).named_buffers(recurse=False))
        for name in self._non_persistent_buffers_set:
            self._buffers[name] = tables[name].to(parameter.device)
