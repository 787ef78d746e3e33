"""Two executions of a group convolution: by a filter bank, as published, or in the irrep basis (``ops.irreps``)."""

from __future__ import annotations

import warnings
from typing import Literal, TypeGuard, get_args

import torch
from torch import Tensor, nn

from e4profile.conventions import TRANSFORM
from e4profile.errors import SettingError, one_of
from e4profile.groups import FiniteGroup, Group, check_kernel
from e4profile.layers.base import Dimensions, EquivariantLayer, Shape
from e4profile.layers.drawn import is_drawing
from e4profile.layers.filter_bank import FilterBankLayer
from e4profile.layers.irrep_peak import IrrepStorages
from e4profile.layers.storages import Timeline
from e4profile.layers.terms import Term, Terms
from e4profile.ops import irrep_operators, irreps
from e4profile.ops.filter_bank import stand_alone
from e4profile.ops.irrep_basis import Window, basis_of
from e4profile.symbols import A_lift, A_rho, Symbol, c_in, c_out, in_irreps, k, n_add, n_cosets, n_lift

Execution = Literal["bank", "irreps", "auto"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
"""By a filter bank, in the irrep basis, or as its sizes suggest. Function, parameters and gradients are the same."""

TRANSFORMS = dict.fromkeys(("transform of input", "transform of output", "transform of weight"), TRANSFORM)
"""The kinds of the terms of ``transforms``."""


def irrep_products(positions: Term) -> Term:
    """MACs in the irrep basis at some positions."""
    return in_irreps * k**2 * c_in * c_out * n_cosets**2 * A_rho * positions


def transforms(positions: Term) -> Terms:
    """Sums and differences of the transforms: of maps at the positions of one image, of the weight once per forward."""
    return {
        "transform of input": in_irreps * k**2 * c_in * n_cosets * n_add * positions,
        "transform of output": in_irreps * c_out * n_cosets * n_add * positions,
        "transform of weight": in_irreps * k**2 * c_in * c_out * n_cosets**2 * n_add,
    }


def lifting_products(positions: Term) -> Term:
    """MACs of a lifting convolution in the irrep basis at some positions."""
    return in_irreps * c_in * c_out * n_cosets * A_lift * positions


def lifting_transforms(positions: Term) -> Terms:
    """Sums and differences of the transforms of a lifting convolution, as in ``transforms``."""
    return {
        "transform of input": in_irreps * c_in * n_lift * positions,
        "transform of output": in_irreps * c_out * n_cosets * n_add * positions,
        "transform of weight": in_irreps * c_in * c_out * n_cosets * n_lift,
    }


def has_irrep_basis(group: FiniteGroup) -> TypeGuard[Group]:
    """Whether a convolution over the group also runs in the irrep basis: C_n and D_n on the square grid."""
    return type(group) is Group


def irrep_sizes(group: FiniteGroup) -> dict[Symbol, int]:
    """Products and sums of one regular field in the irrep basis; 0 of a group that has none here."""
    if not has_irrep_basis(group):
        return {A_rho: 0, n_add: 0}
    return {A_rho: group.irrep_products, n_add: basis_of(group).additions}


class SwitchedLayer(EquivariantLayer):
    """A layer of which a convolution over the group also runs in the irrep basis."""

    group: FiniteGroup

    @property
    def switches(self) -> bool:
        """Whether it has another execution: over C_n and D_n of the square grid; over another group it has the bank."""
        return has_irrep_basis(self.group)

    def switch(self, execution: Execution) -> None:
        """Run the convolution that way from now on.

        Raises:
            UnknownNameError: for an execution that does not exist.
        """
        raise TypeError(f"{type(self).__name__} must define switch() to run by {execution}")


class IrrepLayer(SwitchedLayer, FilterBankLayer):
    """A convolution to regular fields that also runs in the irrep basis of the group's elements on the grid."""

    in_irreps_where = (in_irreps,)
    per_forward = frozenset({"transform of weight"})
    irrep_window: Window
    """The convolution in the irrep basis, apart from its tensors."""

    @property
    def execution(self) -> Execution:
        """How the convolution runs: "bank", "irreps" or "auto"."""
        return self._execution

    @execution.setter
    def execution(self, execution: Execution) -> None:
        one_of("execution", execution, EXECUTIONS)
        check_kernel(self.kernel)
        self.clear_filter_cache()
        self._execution = execution
        if execution != "irreps" and not has_irrep_basis(self.group):
            return
        if not has_irrep_basis(self.group):
            raise SettingError(
                f"execution (='irreps') of {type(self).__name__} needs C_n or D_n of the square grid, not "
                f"{self.group.name}: omit it, or give execution='bank'"
            )
        group = self.group
        cosets = group.cosets_on_grid
        self.irrep_window = Window(
            group.on_grid, self.kernel, self._conv_stride, self.padding, cosets if len(cosets) > 1 else (),
            lifts=(self.field_in, self.field_out) == ("trivial", "regular"),
        )  # fmt: skip
        if not is_drawing():
            self.irrep_window.make()

    def switch(self, execution: Execution) -> None:
        """The same as to set ``execution``; a layer whose group has no irrep basis here stays as it is."""
        if self.switches:
            self.execution = execution

    @property
    def _conv_stride(self) -> int:
        return self.stride

    def _irrep_weight(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the index that ``irreps.irrep_filters`` reads."""
        return self.weight, self.filter_index

    def in_irreps(self, input_shape: Shape) -> bool:
        """Whether an input (B, c_in * A, h, w) is convolved in the irrep basis; by sizes alone."""
        if self.execution == "bank" or self.field_out != "regular" or not has_irrep_basis(self.group):
            return False
        if self.execution == "irreps":
            return True
        window = self.irrep_window
        rows, columns = (window.size_out(size + 2 * self.padding) for size in input_shape[-2:])
        return irreps.pays(window, *self._fields_on_grid, input_shape[0] * rows * columns)

    @property
    def _fields_on_grid(self) -> tuple[int, int]:
        """Input and output fields of the elements on the grid."""
        cosets = max(len(self.irrep_window.cosets), 1)
        return self.c_in * (1 if self.irrep_window.lifts else cosets), self.c_out * cosets

    def _runs_in_irreps(self, features: Tensor) -> bool:
        """The same of maps in hand; a plain convolution says what is wrong with those that do not fit."""
        if self.execution == "bank" or features.dim() not in (3, 4):
            return False
        sizes = plain_sizes(_batched(features))
        fits = all(size + 2 * self.padding >= self.kernel for size in sizes[2:])
        return fits and sizes[1] == self.c_in * self._channels(self.field_in) and self.in_irreps(sizes)

    def _convolve_in_irreps(self, features: Tensor) -> Tensor:
        if features.dim() == 3:  # one image without a batch, as a plain convolution takes it
            return self._convolve_in_irreps(features[None])[0]
        window, cosets = self.irrep_window, max(len(self.irrep_window.cosets), 1)
        bias = None if self.bias is None else self.bias.repeat_interleave(cosets)
        if irrep_operators.compiled_alone(features, self.weight, bias):
            weight, index = self._irrep_weight()
            return irrep_operators.convolve(features, weight, bias, index, window)
        if stand_alone(features, self.weight, bias):
            trained = (features, self.weight) if bias is None else (features, self.weight, bias)
            if torch.is_grad_enabled() and any(one.requires_grad for one in trained):
                weight, index = self._irrep_weight()
                return irreps.convolve(features, weight, bias, index, window)
            return irreps.forward(features, self._irrep_filters(), bias, window)
        return irreps.chain(features, self._irrep_filters(), bias, window)

    def _irrep_filters(self) -> list[Tensor]:
        window, (fields_in, fields_out) = self.irrep_window, self._fields_on_grid
        shapes = irreps.filter_shapes(fields_out, fields_in, window)
        return self._kept(lambda: irreps.irrep_filters(*self._irrep_weight(), window), shapes)

    def dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols, from arguments and shape alone."""
        return {**super().dimensions(input_shape), **self.irrep_dimensions(input_shape)}

    def irrep_dimensions(self, input_shape: Shape) -> Dimensions:
        """The values of the symbols of the execution."""
        if not has_irrep_basis(self.group):
            return {in_irreps: 0, n_cosets: 1, A_lift: 0, n_lift: 0, **irrep_sizes(self.group)}
        window = self.irrep_window
        return {
            in_irreps: int(self.in_irreps(input_shape)), n_cosets: max(len(window.cosets), 1),
            **irrep_sizes(window.group),
            A_lift: window.group.lifting_products(self.kernel) if window.lifts else 0,
            n_lift: window.additions if window.lifts else 0,
        }  # fmt: skip

    def irrep_storages(self, input_shape: Shape, dtype: torch.dtype, of: str = "") -> IrrepStorages:
        """What the convolution in the irrep basis holds."""
        return IrrepStorages(self.irrep_window, self._fields_on_grid, input_shape, dtype, of)

    def timeline(self, input_shape: Shape, dtype: torch.dtype) -> Timeline | None:
        """The storages of the execution on inputs of this shape and dtype on the CPU."""
        if not self.in_irreps(input_shape):
            return super().timeline(input_shape, dtype)
        biases = 0 if self.bias is None else self.bias.numel()
        return self.irrep_storages(input_shape, dtype).timeline(biases, self._pooled(input_shape))

    def _pooled(self, input_shape: Shape) -> int:
        """Elements that a max-pool after the convolution leaves, or 0 without one."""
        del input_shape
        return 0

    def no_peak_on(self, input_shape: Shape) -> str | None:
        """Why ``peak`` does not hold for this layer on inputs of this shape, or None where it does."""
        if "masked_taps" in self._buffers:
            return f"{self.group.name} moves taps out of the kernel; masking them takes storages that no timeline has"
        return super().no_peak_on(input_shape)


def _batched(features: Tensor) -> Tensor:
    return features[None] if features.dim() == 3 else features


def plain_sizes(features: Tensor) -> Shape:
    """The shape in plain numbers.

    ``torch.jit.trace`` makes them tensors and warns of an answer read from them; here the traced sizes are meant.
    """
    if not torch._C._get_tracing_state():
        return features.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(int(size) for size in features.shape)


def may_run_in_irreps(model: nn.Module) -> bool:
    """Whether a convolution of a model runs in the irrep basis on some inputs."""
    parts = (part for part in model.modules() if isinstance(part, SwitchedLayer))
    return any(getattr(part, "pointwise_execution", getattr(part, "execution", "bank")) != "bank" for part in parts)


def set_execution(model: nn.Module, execution: Execution) -> nn.Module:
    """The model, whose group convolutions run that way from now on; parameters and results stay.

    Lifting convolutions, those of an E4 layer's branches and the pointwise factor of separable ones are among them.
    Layers without another execution are left as they are.

    Raises:
        UnknownNameError: for an execution that does not exist.
    """
    one_of("execution", execution, EXECUTIONS)
    for part in model.modules():
        if isinstance(part, SwitchedLayer):
            part.switch(execution)
    return model
