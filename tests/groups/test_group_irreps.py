"""Real irreps of any group, from nothing but its products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from other_groups import QUATERNIONS, Permutations

from e4profile.groups import FiniteGroup, Group
from e4profile.groups.irreps import irreps_of_table

POINTS = st.integers(2, 5).flatmap(lambda n: st.lists(st.permutations(range(n)).map(tuple), min_size=1, max_size=2))


@given(POINTS.map(lambda generators: Permutations(tuple(generators))))
@example(QUATERNIONS)
@settings(max_examples=25, deadline=None)
def test_irreps_are_orthogonal_homomorphisms_that_make_up_the_regular_representation(group: FiniteGroup) -> None:
    found = irreps_of_table(group.product_table)
    table = np.array(group.product_table)
    assert set(np.ravel(found[0].matrices)) == {1.0}
    for one in found:
        matrices, d = np.array(one.matrices), one.dimension
        assert np.allclose(matrices[:, None] @ matrices[None], matrices[table], atol=1e-9)
        assert np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(d), atol=1e-9)
        # what commutes with every element, as a space of solutions
        equations = [np.kron(matrix, np.eye(d)) - np.kron(np.eye(d), matrix.T) for matrix in matrices]
        assert d**2 - np.linalg.matrix_rank(np.concatenate(equations), tol=1e-6) == one.endomorphisms
    characters = np.array([np.trace(np.array(one.matrices), axis1=1, axis2=2) for one in found])
    sizes = [one.endomorphisms for one in found]
    assert np.allclose(characters @ characters.T / group.order, np.diag(sizes), atol=1e-9)
    assert sum(one.dimension**2 // one.endomorphisms for one in found) == group.order
    assert sum(one.dimension * one.multiplicity for one in found) == group.order


def test_the_three_types() -> None:
    assert [(one.dimension, one.type) for one in QUATERNIONS.irreps] == [(1, "real")] * 4 + [(4, "quaternionic")]
    assert [one.type for one in Permutations(((1, 2, 0),)).irreps] == ["real", "complex"]
    assert [one.type for one in Permutations(((1, 2, 0), (1, 0, 2))).irreps] == ["real", "real", "real"]


@pytest.mark.parametrize("group", [Group(n, mirrors) for n in (1, 2, 3, 4, 6, 8) for mirrors in (False, True)], ids=str)
def test_those_of_rotations_and_mirrors_are_the_ones_written_down(group: Group) -> None:
    def characters(irreps: object) -> list[tuple[float, ...]]:
        return sorted(tuple(np.trace(np.array(m)).round(6) + 0.0 for m in one.matrices) for one in irreps)

    assert characters(irreps_of_table(group.product_table)) == characters(group.irreps)
    assert [one.endomorphisms for one in group.irreps if one.dimension == 2] == [
        one.endomorphisms for one in irreps_of_table(group.product_table) if one.dimension == 2
    ]
