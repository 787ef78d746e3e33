"""Real irreps of a finite group, from nothing but its table of products.

The regular representation holds every irrep. A symmetric matrix that commutes with it, and is otherwise random, has
one eigenspace for each copy of an irrep: the irrep itself is how the group acts in there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from e4profile.errors import SettingError

_EXACT = 1e-9
_TRIES = 8
_LETTERS = {1: "A", 2: "E", 3: "T", 4: "G", 5: "H"}


@dataclass(frozen=True)
class Irrep:
    """A real irreducible representation.

    Attributes:
        name: ``A`` and ``B`` for one dimension, ``E`` for two, as chemists write them.
        matrices: d x d and orthogonal, by element; of rotations by right angles exact integers.
        endomorphisms: dimension of what commutes with it: 1 of real, 2 of complex, 4 of quaternionic type.
    """

    name: str
    matrices: tuple[tuple[tuple[float, ...], ...], ...]
    endomorphisms: int = 1

    @property
    def dimension(self) -> int:
        """The d of its d x d matrices."""
        return len(self.matrices[0])

    @property
    def type(self) -> str:
        """Real, complex or quaternionic: what commutes with it."""
        return {1: "real", 2: "complex", 4: "quaternionic"}[self.endomorphisms]

    @property
    def multiplicity(self) -> int:
        """How often it is in the regular representation: d, half of it by complex type, a quarter by quaternionic."""
        return self.dimension // self.endomorphisms

    @property
    def products(self) -> int:
        """Multiplications of one coefficient matrix by another: d^3, or d^2 of two dimensions of complex type."""
        return self.multiplicity * self.dimension**2

    @property
    def fewest_products(self) -> int:
        """The same at the price of additions: 3 of a complex product (Gauss), 7 of 2 x 2 matrices (Strassen 1969)."""
        return {4: 3, 8: 7}.get(self.products, self.products)


@lru_cache(maxsize=64)
def irreps_of_table(table: tuple[tuple[int, ...], ...]) -> tuple[Irrep, ...]:
    """All real irreps, the trivial one first, by dimension; of a table ``[g][h]`` of g h with the identity first.

    Raises:
        SettingError: where no random matrix separates them, which no group is known for.
    """
    for seed in range(_TRIES):
        found = _split(table, seed)
        if found is not None:
            return found
    raise SettingError(f"no irreps found for a group of {len(table)} elements: check its table of products")


def _split(table: Sequence[Sequence[int]], seed: int) -> tuple[Irrep, ...] | None:
    """The irreps by one random matrix; None where it does not separate them."""
    import numpy as np

    order = len(table)
    products = np.array(table)
    inverses = (products == 0).argmax(1)
    amounts = np.random.default_rng(seed).normal(size=order)
    # entry (g, h) depends on g^-1 h alone, so that acting from the left changes nothing
    commuting = (amounts + amounts[inverses])[products[inverses]]
    values, vectors = np.linalg.eigh(commuting)
    ends = np.flatnonzero(np.diff(values) > _EXACT * (1 + np.abs(values).max())) + 1
    found: dict[tuple[float, ...], tuple[Any, int]] = {}
    for space in np.split(vectors, ends, axis=1):
        # g takes the unit vector of h to that of g h
        moved = np.stack([space.T @ space[products[inverse]] for inverse in inverses])
        characters = moved.trace(axis1=1, axis2=2)
        key = tuple((-characters.round(6) + 0.0).tolist())
        if key in found:
            continue
        endomorphisms = float((characters**2).mean())
        error = max(float(np.abs(one @ moved - moved[row]).max()) for one, row in zip(moved, products, strict=True))
        if round(endomorphisms) not in (1, 2, 4) or max(abs(endomorphisms - round(endomorphisms)), error) > _EXACT:
            return None
        found[key] = moved, round(endomorphisms)
    named: list[Irrep] = []
    counts: dict[int, int] = {}
    for _, (moved, endomorphisms) in sorted(found.items()):
        d = moved.shape[1]
        counts[d] = counts.get(d, 0) + 1
        exact = moved.round() if d == 1 else moved
        matrices = tuple(tuple(map(tuple, matrix)) for matrix in exact.tolist())
        named.append(Irrep(f"{_LETTERS.get(d, f'V{d}_')}{counts[d]}", matrices, endomorphisms))
    named.sort(key=lambda one: one.dimension)
    return tuple(named) if sum(one.dimension * one.multiplicity for one in named) == order else None
