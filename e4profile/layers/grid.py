"""When strided windows sit symmetrically on a map, and what to say when they do not."""

from __future__ import annotations

from collections.abc import Sequence

from e4profile.groups import Group


def window_reason(
    group: Group, sizes: Sequence[int], kernel: int, stride: int, padding: int, *, what: str = "windows"
) -> str | None:
    """Why strided windows break exact equivariance on (h, w) maps, or None.

    The first and the last window must be equally far from the border: stride divides size + 2 padding - kernel.
    """
    for size, axis, reversed_axis in zip(sizes, ("height", "width"), group.reversed_axes, strict=True):
        rest = size + 2 * padding - kernel
        if reversed_axis and rest % stride:
            return (
                f"stride (={stride}) does not divide {axis} (={size}) + 2*padding (={padding}) - kernel (={kernel}): "
                f"the {what} do not sit symmetrically, and {group.name} is not exact here"
            )
    return None
