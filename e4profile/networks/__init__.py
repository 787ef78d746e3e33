"""Topologies that a card names. A file here is found by being here."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from e4profile.networks.blocks import NETWORKS

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["NETWORKS"]
