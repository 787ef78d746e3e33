"""SVG with the same names for the same drawing."""

from __future__ import annotations

import re

_DEFINED = re.compile(r'\bid="((?:m|p|h|image|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10})"')


def numbered_names(svg: str) -> str:
    """Number what matplotlib names by a hash: markers, clip paths, hatches, images, collections.

    The hash of a clip path is that of its floating-point corners, whose last bit the layout's solver leaves to the
    order of objects in memory; what is drawn has six decimals and does not change.
    """
    names = {name: f"{name[:-10]}{number}" for number, name in enumerate(dict.fromkeys(_DEFINED.findall(svg)), 1)}
    return re.sub(r'(?<=[#"])\w+(?=[)"])', lambda found: names.get(found[0], found[0]), svg)
