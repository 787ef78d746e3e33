"""One file per counter; each gives the same Count.

Import a counter's own file where it is needed: a missing or broken third-party counter then costs only its
own column.
"""

from __future__ import annotations

COUNTERS = ("closed-form", "dispatch", "fvcore", "thop")
"""The counters by the name that the command line and the API use."""

NOT_RUN = "not run"
"""What the reason begins with where a counter was not asked, because the network is too large for it."""
