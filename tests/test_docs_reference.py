"""The reference pages are what the program says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_reference_is_fresh():
    result = subprocess.run(
        [sys.executable, "docs/generate_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_it_is_complete():
    from e4profile.cli.main import listed
    from e4profile.conventions import CONVENTIONS
    from e4profile.networks.cards import all_cards
    from e4profile.questions.formula.formulas import layer_names

    pages = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "reference").glob("*.md")}
    for name in listed():
        assert f"## e4profile {name}\n" in pages["commands"]
    assert all(f"| `{name}` |" in pages["cards"] for name in all_cards())
    assert all(f"## {name}\n" in pages["conventions"] for name in CONVENTIONS)
    assert all(f"## {name}\n" in pages["layers"] for name in layer_names())
    assert all(f"`{kind}`" in pages["records"] for kind in ("sweep", "time", "gpu_memory"))


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs builds the site: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    decisions = set((ROOT / "docs" / "decisions").iterdir())
    for file in {*(ROOT / "docs").rglob("*.md")} - decisions:
        assert str(file.relative_to(ROOT / "docs")) in navigation, f"add {file.name} to nav in mkdocs.yml"


def test_every_guide_and_explanation_is_on_the_first_page():
    pages = {*(ROOT / "docs" / "how-to").glob("*.md"), *(ROOT / "docs" / "explanation").glob("*.md")}
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [file.name for file in pages if f"({file.parent.name}/{file.name})" not in first] == []
