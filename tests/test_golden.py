"""Outputs that may only change on purpose: ``make golden`` writes them anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e4profile.cli.main import main

GOLDEN = Path(__file__).parent / "golden"

COMMANDS: dict[str, tuple[str, ...]] = {
    **{f"table-{n}.json": ("published", n, "--format", "json") for n in ("1", "2", "3", "4")},
    "count-e4net.json": ("count", "e4net", "--format", "json"),
    "formula-e4.txt": ("formula", "e4"),
    "sweep.json": (
        "sweep", "--group", "p4", "--group", "p4m", "-r", "2,3", "-s", "1,2", "-k", "3", "--width", "4",
        "--format", "json", "--no-plots",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_golden(
    name: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["e4profile", *COMMANDS[name]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    written = capsys.readouterr().out
    path = GOLDEN / name
    if request.config.getoption("--refresh-golden"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")
    assert written.encode() == path.read_bytes(), f"{name} has changed; if on purpose: make golden"
