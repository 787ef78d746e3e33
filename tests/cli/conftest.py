from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_model_nets import NET, write
from program import Run


@pytest.fixture
def own(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """The program in a folder with ``net.py``, networks of one's own."""
    monkeypatch.delitem(sys.modules, "net", raising=False)
    write(tmp_path, NET)
    yield run
    sys.modules.pop("net", None)
