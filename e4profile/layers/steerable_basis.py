"""The kernels of steerable convolutions: Gaussian rings times circular harmonics, sampled on rotated grids.

Weiler & Cesa 2019, section 2 and appendix (General E(2)-equivariant steerable CNNs). A kernel between regular
fields satisfies kappa(g x) = rho_out(g) kappa(x) rho_in(g)^-1 exactly when

    kappa(x)[g, h] = f_{g^-1 h}(g^-1 x)

for one free function f_u per relative element u. Each f_u is a combination of the functions here; a rotation
maps the span of one ring's harmonics of one frequency onto itself, so the span belongs to every group.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from e4profile.errors import SettingError, positive
from e4profile.groups import Group

_SIGMA_CENTRE, _SIGMA_INNER, _SIGMA_OUTERMOST = 0.005, 0.6, 0.4


class KernelFunction(NamedTuple):
    """exp(-(|x| - radius)^2 / (2 sigma^2)) times cos(frequency a), or sin where ``odd``.

    The angle a is measured from the upright axis, which is the axis of the left-right mirror: cosines are
    even under that mirror and sines odd. Functions of positive frequency are 0 at the origin.
    """

    radius: int
    sigma: float
    frequency: int
    odd: bool


def highest_frequency(radius: int, outermost: int) -> int:
    """The band limit of one ring, in pixels: what a ring of this radius can carry without aliasing."""
    if radius == outermost:
        return min(2 * radius, 2)
    return min(2 * radius, 2 * radius - (radius + 1) % 2)


@lru_cache(maxsize=64)
def kernel_functions(kernel: int, invariant_under: Group | None = None) -> tuple[KernelFunction, ...]:
    """The functions that span the kernels of size ``kernel``: 1, 6, 11, 18, 31 for sizes 1, 3, 5, 7, 9.

    Args:
        kernel: odd kernel size k; the rings have radii 0 .. k // 2.
        invariant_under: keep only the functions with f(g^-1 x) = f(x) for every element of this group, which
            are the kernels between trivial fields.

    Raises:
        SettingError: for an even kernel.
    """
    positive(kernel=kernel)
    if kernel % 2 == 0:
        raise SettingError(f"kernel (={kernel}) must be odd: the rings of a kernel sit around one pixel")
    outermost = kernel // 2
    functions = []
    for radius in range(outermost + 1):
        sigma = _SIGMA_CENTRE if radius == 0 else _SIGMA_OUTERMOST if radius == outermost else _SIGMA_INNER
        for frequency in range(max(highest_frequency(radius, outermost), 0) + 1):
            for odd in (False, True) if frequency else (False,):
                functions.append(KernelFunction(radius, sigma, frequency, odd))
    if invariant_under is None:
        return tuple(functions)
    group = invariant_under
    return tuple(one for one in functions if one.frequency % group.rotations == 0 and not (one.odd and group.mirrors))


def evaluate_functions(functions: tuple[KernelFunction, ...], points: Tensor) -> Tensor:
    """The values of the functions at points of the plane.

    Args:
        functions: n of them.
        points: (..., 2) as (x, y), x to the right and y up, in pixels.

    Returns:
        (..., n) in the points' dtype.
    """
    x, y = points.unbind(-1)
    distance, angle = torch.hypot(x, y), torch.atan2(x, y)
    # an angle means nothing at the origin, and a kernel that varied with it there would not be steerable
    away = (distance > 0).to(points.dtype)
    values = []
    for one in functions:
        ring = torch.exp(-((distance - one.radius) ** 2) / (2 * one.sigma**2))
        harmonic = torch.sin(one.frequency * angle) if one.odd else torch.cos(one.frequency * angle)
        values.append(ring * harmonic * away if one.frequency else ring)
    return torch.stack(values, -1)


def grid_points(kernel: int) -> Tensor:
    """The points (k * k, 2) of a kernel's taps in row-major order, float64 on the CPU."""
    middle = (kernel - 1) / 2
    points = [(column - middle, middle - row) for row in range(kernel) for column in range(kernel)]
    return torch.tensor(points, dtype=torch.float64, device="cpu")


def acted(group: Group, element: int, points: Tensor) -> Tensor:
    """The points (..., 2) moved by a group element."""
    matrix = torch.tensor(group.matrix(element), dtype=points.dtype, device=points.device)
    # sums of two products written out, so that quarter turns of whole pixels stay exact
    return torch.stack([(row * points).sum(-1) for row in matrix.unbind()], -1)


@lru_cache(maxsize=256)
def sampled_basis(group: Group, kernel: int, rotated: bool, invariant: bool = False) -> Tensor:
    """Every function at every tap of the kernel's grid, seen from every group element.

    Computed once per setting and shared by every layer; nobody may write to it.

    Args:
        group: the group.
        kernel: odd kernel size k.
        rotated: sample at g^-1 x for all elements g, in element order; else at x alone.
        invariant: only the functions invariant under the group.

    Returns:
        (n, elements * k * k), float64 on the CPU.

    Raises:
        SettingError: for an even kernel.
    """
    functions = kernel_functions(kernel, group if invariant else None)
    grid = grid_points(kernel)
    elements = group.elements if rotated else range(1)
    moved = torch.stack([acted(group, group.inverse(element), grid) for element in elements])
    return evaluate_functions(functions, moved.flatten(0, 1)).T.contiguous()


@lru_cache(maxsize=256)
def pair_index(group: Group, kernel: int, from_regular: bool, to_regular: bool) -> Tensor:
    """Where the taps of one field pair's kernel stand among the sampled free functions.

    Returns:
        (A_out, A_in, k * k), int64 on the CPU: indices into the samples (relative elements, rotated grids,
        k * k) of f, flattened. A_out is A for a regular output field and 1 for a trivial one; likewise A_in.
    """
    taps = torch.arange(kernel * kernel, device="cpu")
    grids = group.order if from_regular or to_regular else 1
    rows = []
    for g in group.elements if to_regular else range(1):
        blocks = []
        for h in group.elements if from_regular else range(1):
            # a trivial side has one channel for all elements: the other side alone decides
            relative = group.product(group.inverse(g), h) if from_regular and to_regular else 0
            grid = g if to_regular else h
            blocks.append((relative * grids + grid) * kernel * kernel + taps)
        rows.append(torch.stack(blocks))
    return torch.stack(rows)
