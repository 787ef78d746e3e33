"""A page in a real browser, without a window and without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--timeout=20000",
)


@dataclass(frozen=True)
class Seen:
    """What a script returned, and every line that the console printed."""

    result: Any
    console: list[str]


def look(page: Path, script: str, *flags: str) -> Seen:
    """Open a page, run the body of a function in it and read back what it returns."""
    assert PROGRAM is not None
    probe = page.with_name(f"probe-{page.name}")
    run = f"document.documentElement.dataset.result = JSON.stringify((() => {{ {script} }})() ?? null);"
    probe.write_text(page.read_text("utf-8").replace("</body>", f"<script>{run}</script></body>"), "utf-8")
    found = subprocess.run(
        [PROGRAM, *_FLAGS, f"--user-data-dir={page.parent / 'profile'}", *flags, "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    result = re.search(r'data-result="([^"]*)"', found.stdout)
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(unescape(result[1])) if result else None, console)
