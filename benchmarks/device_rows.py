"""Rows of a benchmark that runs on a device: each saved as it is made, none lost to one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from e4profile.witnesses.environment import environment

Row = dict[str, Any]


def save_rows(jobs: Iterable[Callable[[], Row]], out: Path) -> int:
    """How many rows failed or are not exact, ``error`` above ``within``; each is printed and saved as it is made."""
    rows: list[Row] = []
    for job in jobs:
        try:
            rows.append(job())
        except Exception as error:  # one size that fails on a device must not cost the others
            rows.append({"kind": "failed", "error": f"{type(error).__name__}: {error}"[:300]})
        print(json.dumps(rows[-1]), flush=True)
        document = {"environment": dict(environment()), "rows": rows}
        out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return sum(
        row["kind"] == "failed" or (row["kind"] == "exactness" and not row["error"] <= row["within"]) for row in rows
    )
