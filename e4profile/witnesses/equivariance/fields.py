"""What a tensor is taken for: on which of its axes a group acts, and how.

A field type says it for the common layouts; for any other one says the axes, as einops does: ``B (c A) h w`` is a
regular field with a channel per element, ``B h w (c A)`` the same with channels last, ``B c A`` one without a grid.

* ``h`` and ``w`` are the grid, or one of them a grid of one axis; ``B (h w) c`` are the tokens of a square one, and
  ``B (h=4 w) c`` those of four rows
* ``A`` is the axis of the group's elements; ``A/3`` that of the cosets of the subgroup that element 3 generates, and
  ``A:E1`` one of the irrep E1
* ``B (8 A + 2 A:E1 + 4) h w`` are fields of several kinds one after another, and ``B (1 + h w) c`` tokens behind one
  that stays; one axis may be such a sum
* every other name or number is an axis on which the group does not act
* `` of p4m`` at the end names the group of a field that is of a larger group than the one that acts
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import FiniteGroup, Group, Irrep, as_group

FIELDS = ("regular", "trivial", "invariant")

Declared: TypeAlias = "str | Sequence[str] | Mapping[Any, str] | None"
"""The field of every tensor, of each in order, or of some by name or number."""

_EXAMPLE = "for example 'B (c A) h w', or regular, trivial or invariant"
_ATOM = re.compile(r"(?P<name>A(?:/\d+(?:,\d+)*|:\w+)?|[A-Za-z_]\w*)(?:=(?P<size>[1-9]\d*))?|(?P<number>[1-9]\d*)")


class _Atom(NamedTuple):
    name: str
    size: int | None

    @property
    def is_group(self) -> bool:
        return self.name == "A" or self.name[:2] in ("A/", "A:")


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor as they are written.

    Attributes:
        text: as written.
        axes: of each axis of the tensor, what it is composed of.
        own: the group of the field where it is named.
        axis: the one that is a sum.
        terms: of a sum, the layout of each part.
    """

    text: str
    axes: tuple[tuple[_Atom, ...], ...]
    own: str | None
    axis: int = 0
    terms: tuple[Layout, ...] = ()

    @property
    def atoms(self) -> list[_Atom]:
        """All of them, in order."""
        return [atom for axis in self.axes for atom in axis]

    def place(self, name: str) -> int | None:
        """Where an axis stands among the atoms: ``h``, ``w``, or ``A`` for what the group permutes or mixes."""
        names: list[str] = ["A" if one.is_group else one.name for one in self.atoms]
        return names.index(name) if name in names else None

    def acts(self) -> bool:
        """Whether the group permutes or mixes an axis, besides the grid."""
        return any(one.place("A") is not None for one in self.terms or (self,))

    def fits(self, shape: Sequence[int], group: FiniteGroup) -> bool:
        """Whether a tensor of a shape may have these axes."""
        if not self.terms:
            return self.sizes(shape, group) is not None
        parts = self.parts(shape, group)
        return parts is not None and all(
            one.fits((*shape[: self.axis], size, *shape[self.axis + 1 :]), group)
            for one, size in zip(self.terms, parts, strict=True)
        )

    def parts(self, shape: Sequence[int], group: FiniteGroup) -> list[int] | None:
        """The size of each part of the axis that is a sum; None where the shape has no such axis."""
        if len(shape) != len(self.axes):
            return None
        known = [[_size(atom, group) for atom in one.axes[self.axis]] for one in self.terms]
        sizes = [None if None in one else math.prod(size or 0 for size in one) for one in known]
        left = shape[self.axis] - sum(size or 0 for size in sizes)
        if sizes.count(None) > 1 or left < 0 or (left == 0) == (None in sizes):
            return None
        return [left if size is None else size for size in sizes]

    def sizes(self, shape: Sequence[int], group: FiniteGroup) -> list[int] | None:
        """The size of each atom in a tensor of a shape; None where the shape has not these axes."""
        if len(shape) != len(self.axes):
            return None
        found: list[int] = []
        for size, axis in zip(shape, self.axes, strict=True):
            known = [_size(atom, group) for atom in axis]
            missing = [atom.name for atom, one in zip(axis, known, strict=True) if one is None]
            left = size / math.prod(one for one in known if one is not None)
            # a square grid, where rows and columns share an axis
            square = sorted(missing) == ["h", "w"]
            each = math.sqrt(left) if square else left
            if not each.is_integer() or not (square or len(missing) == 1 or left == 1):
                return None
            found += [int(each) if one is None else one for one in known]
        return found


def _size(atom: _Atom, group: FiniteGroup) -> int | None:
    if atom.name == "A":
        return group.order
    if atom.name.startswith("A/"):
        return len(group.cosets(_generators(atom.name)))
    if atom.name.startswith("A:"):
        return _irrep(atom.name, group).dimension
    return atom.size


def _generators(name: str) -> list[int]:
    return [int(one) for one in name[2:].split(",")]


def _irrep(name: str, group: FiniteGroup) -> Irrep:
    found = next((one for one in group.irreps if one.name == name[2:]), None)
    if found is None:
        raise UnknownNameError(f"irrep of {group.name}", name[2:], [one.name for one in group.irreps])
    return found


@lru_cache(maxsize=256)
def layout_of(text: str) -> Layout:
    """The layout that a text writes.

    Raises:
        UnknownNameError: for a single word that is no field type.
        SettingError: for another text that is no layout.
    """
    body, of, own = text.partition(" of ")
    words = re.findall(r"\([^()]*\)|[^\s()]+|[()]", body)
    sums = [i for i, word in enumerate(words) if "+" in word]
    if len(sums) == 1 and len(words) > 1:
        before, after = " ".join(words[: sums[0]]), " ".join(words[sums[0] + 1 :])
        terms = words[sums[0]].strip("()").split("+")
        parts = tuple(layout_of(f"{before} ({term.strip()}) {after}{of}{own}".strip()) for term in terms)
        return Layout(text, parts[0].axes, parts[0].own, sums[0], parts)
    axes: list[tuple[_Atom, ...]] = []
    for word in words:
        parts = word.strip("()").split()
        atoms = [_ATOM.fullmatch(part) for part in parts]
        if not parts or None in atoms or word in "()":
            if len(words) == 1:
                raise UnknownNameError("field type", text, FIELDS)
            raise SettingError(f"field {text!r}: {word!r} is no axis; write them as they come, {_EXAMPLE}")
        axes.append(tuple(_atom(one) for one in atoms if one))
    found = Layout(text, tuple(axes), own.strip() if of else None)
    names = ["A" if one.is_group else one.name for one in found.atoms if not one.name.isdigit()]
    if len(axes) < 2:
        raise UnknownNameError("field type", text, FIELDS)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"field {text!r} has the axis {twice} twice; {_EXAMPLE}")
    return found


def _atom(match: re.Match[str]) -> _Atom:
    size = match["size"] or match["number"]
    return _Atom(match["name"] or size, int(size) if size else None)


def check_field(field: str) -> None:
    """Refuse what is neither a field type nor a layout.

    Raises:
        UnknownNameError: for a word.
        SettingError: for another text.
    """
    if field not in FIELDS:
        layout_of(field)


def _named_group(field: str) -> FiniteGroup | None:
    """The group that a layout names as the field's own."""
    own = None if field in FIELDS else layout_of(field).own
    return None if own is None else as_group(own)


def is_field(field: object) -> bool:
    """Whether a module's attribute says a field type or a layout."""
    if not isinstance(field, str):
        return False
    try:
        check_field(field)
    except (SettingError, UnknownNameError):
        return False
    return True


def same_motion(group: FiniteGroup, acting: FiniteGroup, element: int) -> int | None:
    """The element of ``group`` that is the same motion, or None."""
    if group == acting:
        return element
    if type(group) is Group and type(acting) is Group:
        rotation, mirror = acting.split(element)
        turned, rest = divmod(rotation * group.rotations, acting.rotations)
        if rest or (mirror and not group.mirrors):
            return None
        return turned + (group.rotations if mirror else 0)
    moves = {type(one).act_on_position for one in (group, acting)}
    exact = all(one.exact_on_grid for one in (group, acting) if isinstance(one, Group))
    if moves != {FiniteGroup.act_on_position} or not exact:
        return None
    matrix = acting.offset_matrix(element)
    found = [one for one in group.elements if group.offset_matrix(one) == matrix]
    return found[0] if len(found) == 1 else None


def acts_on_elements(field: str) -> bool:
    """Whether the group permutes or mixes an axis of a field, besides its grid."""
    return field == "regular" or (field not in FIELDS and layout_of(field).acts())


def group_axis(shape: Sequence[int], order: int) -> int | None:
    """The axis of a regular field's elements, of its own or shared with the channels; None where no axis fits.

    Args:
        shape: (B, c * A) or (B, c, A) without a grid, (B, c * A, h, w), (B, c, A, h, w), and, where c is not A,
            (B, A, c, h, w).
        order: A.
    """
    if len(shape) in (2, 4):
        return 1 if shape[1] % order == 0 else None
    own_axes = {3: (2,), 5: (2, 1)}.get(len(shape), ())
    return next((axis for axis in own_axes if shape[axis] == order), None)


def fits(field: str, shape: Sequence[int], own: FiniteGroup) -> bool:
    """Whether a tensor of a shape may be such a field of a group."""
    if field == "regular":
        return group_axis(shape, own.order) is not None
    return field in FIELDS or layout_of(field).fits(shape, own)


def moved_maps(maps: Tensor, group: FiniteGroup, element: int) -> Tensor:
    """Maps (..., h, w), acted on; by nothing but a permutation of their positions, also for a user-defined group."""
    if type(group) is Group:
        return group.act_on_grid(maps, element)
    return FiniteGroup.act_on_grid(group, maps, element)


def act(features: Tensor, group: FiniteGroup, element: int, field: str, own: FiniteGroup | None = None) -> Tensor:
    """Act with a group element on features of a field type or layout.

    ``regular`` fields move on the grid, where they have one, and over the group (see ``group_axis`` for their shapes),
    ``trivial`` ones (..., h, w) on the grid only, ``invariant`` ones (any shape, for example logits) not at all.

    Args:
        features: what moves.
        group: the group that acts.
        element: of it.
        field: the type, or a layout.
        own: the group of a regular field that is larger than the one that acts; a layout may name it instead.

    Raises:
        UnknownNameError: for another field type.
        SettingError: for a shape that no field of the type has, or a regular field whose group lacks the element.
    """
    check_field(field)
    own = _named_group(field) or own or group
    shape = tuple(features.shape)
    if field == "invariant":
        return features
    if field == "trivial":
        if len(shape) < 3:
            raise SettingError(f"a trivial field is a map (..., h, w), not of shape {shape}")
        return moved_maps(features, group, element)
    inner = same_motion(own, group, element) if acts_on_elements(field) else 0
    if inner is None:
        raise SettingError(f"a regular field of {own.name} lacks element {element} of {group.name}")
    if field != "regular":
        layout = layout_of(field)
        if layout.terms:
            parts = [act(part, group, element, one.text, own) for one, part in _parted(features, layout, own)]
            return torch.cat(parts, layout.axis)
        apart = _moved_elements(_apart(features, layout, own), layout, own, inner)
        rows, columns = layout.place("h"), layout.place("w")
        if rows is not None or columns is not None:
            apart = _grid_back(moved_maps(_grid_last(apart, rows, columns), group, element), rows, columns)
        for i, axes in enumerate(layout.axes):
            apart = apart.flatten(i, i + len(axes) - 1)
        return apart
    axis = group_axis(shape, own.order)
    if axis is None:
        raise SettingError(
            f"group order (={own.order}) must divide the channels or have an axis of its own in a regular field, not "
            f"of shape {shape}"
        )
    index = torch.tensor(FiniteGroup.regular_permutation(own, inner), device=features.device)
    fields = features.unflatten(axis, (-1, own.order)).index_select(axis + 1, index)
    moved = moved_maps(fields, group, element) if len(shape) > 3 else fields
    return moved.flatten(axis, axis + 1)


def _moved_elements(apart: Tensor, layout: Layout, own: FiniteGroup, element: int) -> Tensor:
    """The features, of which the axis ``A``, ``A/...`` or ``A:...`` is acted on."""
    place = layout.place("A")
    if place is None:
        return apart
    name = layout.atoms[place].name
    if name.startswith("A:"):
        matrix = torch.tensor(_irrep(name, own).matrices[element], dtype=apart.dtype, device=apart.device)
        return (apart.movedim(place, -1) @ matrix.T).movedim(-1, place)
    if name.startswith("A/"):
        permutation = FiniteGroup.quotient_permutation(own, element, _generators(name))
    else:
        permutation = FiniteGroup.regular_permutation(own, element)
    return apart.index_select(place, torch.tensor(permutation, device=apart.device))


def _apart(features: Tensor, layout: Layout, own: FiniteGroup) -> Tensor:
    """The features with an axis for each atom."""
    sizes = layout.sizes(tuple(features.shape), own)
    if sizes is None:
        raise _unfit(features, layout, own)
    return features.reshape(sizes)


def _parted(features: Tensor, layout: Layout, own: FiniteGroup) -> Iterator[tuple[Layout, Tensor]]:
    """The parts of the axis that is a sum."""
    sizes = layout.parts(tuple(features.shape), own)
    if sizes is None:
        raise _unfit(features, layout, own)
    yield from zip(layout.terms, features.split(sizes, layout.axis), strict=True)


def _unfit(features: Tensor, layout: Layout, own: FiniteGroup) -> SettingError:
    return SettingError(
        f"a tensor of shape {tuple(features.shape)} is no {layout.text!r} of {own.name} (A={own.order}); write "
        "the sizes that do not follow from it, such as (h=4 w)"
    )


def _grid_last(apart: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """(..., h, w), where a grid of one axis gets another of one row or one column."""
    if rows is not None and columns is not None:
        return apart.movedim((rows, columns), (-2, -1))
    return apart.movedim(rows, -1)[..., None] if rows is not None else apart.movedim(columns or 0, -1)[..., None, :]


def _grid_back(maps: Tensor, rows: int | None, columns: int | None) -> Tensor:
    if rows is not None and columns is not None:
        return maps.movedim((-2, -1), (rows, columns))
    return maps[..., 0].movedim(-1, rows) if rows is not None else maps[..., 0, :].movedim(-1, columns or 0)


def maps_of(features: Tensor, field: str, own: FiniteGroup) -> Tensor | None:
    """A field with its grid last, (..., h, w); None where it has no grid."""
    if field in FIELDS:
        return features if field == "trivial" or (field == "regular" and features.dim() > 3) else None
    layout = layout_of(field)
    if layout.terms:
        found = (maps_of(part, one.text, own) for one, part in _parted(features, layout, own))
        return next((one for one in found if one is not None), None)
    rows, columns = layout.place("h"), layout.place("w")
    return None if rows is None and columns is None else _grid_last(_apart(features, layout, own), rows, columns)


def of_the_map(features: Tensor, group: FiniteGroup, field: str, own: FiniteGroup) -> Tensor:
    """What of a field lies on the group's map: a square array is more than the hexagon in it."""
    if type(group) is Group:
        return features
    layout = None if field in FIELDS else layout_of(field)
    if layout is not None and layout.terms:
        parts = _parted(features, layout, own)
        return torch.cat([of_the_map(part, group, one.text, own).flatten() for one, part in parts])
    maps = maps_of(features, field, own)
    if maps is None:
        return features
    places = torch.tensor(FiniteGroup.positions(group, *maps.shape[-2:]), device=maps.device)
    return maps.flatten(-2).index_select(-1, places)


class Reading(NamedTuple):
    """What a tensor is taken for: a field type or layout, and the group of a regular field."""

    field: str
    own: FiniteGroup

    def moved(self, features: Tensor, acting: FiniteGroup, element: int) -> Tensor | None:
        """The features, acted on; None where the field's group lacks the element."""
        if acts_on_elements(self.field) and same_motion(self.own, acting, element) is None:
            return None
        return act(features, acting, element, self.field, self.own)

    def __str__(self) -> str:
        if self.field not in FIELDS:
            return f"{self.field!r}" + (f" of {self.own.name}" if acts_on_elements(self.field) else "")
        return f"a regular field of {self.own.name}" if self.field == "regular" else f"{self.field} fields"


def readings_as(field: str, shape: Sequence[int], owns: Sequence[FiniteGroup]) -> list[Reading]:
    """What a tensor may be that is said to be of a field: of each group that fits; of the last where none does."""
    named = _named_group(field)
    if named is not None:
        return [Reading(field, named)]
    fitting = [own for own in owns if acts_on_elements(field) and fits(field, shape, own)]
    return [Reading(field, own) for own in fitting or owns[-1:]]


def paths_of(value: Any, path: str = "") -> Iterator[str]:
    """A name for every tensor, in order: keys and numbers with dots between; empty for a tensor itself."""
    if isinstance(value, Tensor):
        yield path
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from paths_of(item, f"{path}.{key}" if path else str(key))


def fields_by_index(declared: Declared, paths: Sequence[str], what: str) -> dict[int, str]:
    """The field that is declared of each tensor; every tensor has one where a single one is.

    Args:
        declared: fields.
        paths: the name of every tensor.
        what: ``--field-in`` or ``--field-out``, for a message.

    Raises:
        SettingError: for a tensor that is not there.
        UnknownNameError: for a field that is none.
    """
    if declared is None:
        return {}
    if isinstance(declared, str):
        declared = [declared] * len(paths)
    named = declared if isinstance(declared, Mapping) else dict(enumerate(declared))
    found: dict[int, str] = {}
    for key, field in named.items():
        check_field(field)
        index = next((i for i, path in enumerate(paths) if str(key) in (path, str(i))), None)
        if index is None:
            known = ", ".join(path or str(i) for i, path in enumerate(paths))
            raise SettingError(f"{what} {key}={field}: there is no tensor {key!r} among {known}")
        found[index] = field
    return found


def declared_from(texts: Sequence[str] | None) -> Declared:
    """What several options say: one field for all, one for each in order, or ``NAME=FIELD``.

    Raises:
        SettingError: for some with a name and some without.
    """
    parts = [part.strip() for text in texts or () for part in text.split(",")]
    pairs = [re.fullmatch(r"(?:([\w.]+)=)?(.*)", part, re.DOTALL) for part in parts]
    found = [(pair[1], pair[2].strip()) for pair in pairs if pair]
    for _, field in found:
        check_field(field)
    if not found:
        return None
    names = [name for name, _ in found if name]
    if names and len(names) < len(found):
        raise SettingError(f"--field: {', '.join(texts or ())}: give every one a name, or none")
    if names:
        return {name: field for name, field in found if name}
    return found[0][1] if len(found) == 1 else [field for _, field in found]
