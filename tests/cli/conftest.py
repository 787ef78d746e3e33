from __future__ import annotations

from pathlib import Path

import pytest
from program import Run, caller


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program in an empty folder, on no terminal: called with arguments, it gives its ``Result``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return caller(capsys, monkeypatch)
