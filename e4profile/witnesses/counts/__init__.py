"""One file per counter; each gives the same Count."""

from __future__ import annotations

from e4profile.witnesses.counts.registry import COUNTERS

__all__ = ["COUNTERS", "NOT_RUN"]

NOT_RUN = "not run"
"""What the reason begins with where a counter was not asked, because the network is too large for it."""
