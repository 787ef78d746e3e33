"""LaTeX compiled in one column of a two-column article, as a paper would."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled(folder: Path, body: str) -> str:
    """The log of LaTeX over a text in columns of 8.5 cm; without LaTeX the test is skipped."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    page = r"\usepackage{booktabs,graphicx,amsmath}\textwidth=17.8cm \columnsep=0.8cm"
    text = f"\\documentclass[twocolumn]{{article}}{page}\\begin{{document}}\n{body}\\end{{document}}\n"
    (folder / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "t.log").read_text(encoding="utf-8", errors="replace")
