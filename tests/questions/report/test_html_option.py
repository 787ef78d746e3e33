"""Commands that write their results as a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from html_document import Document

from e4profile.cli.main import main


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["e4profile", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def _page(path: Path) -> tuple[Document, str]:
    document = Document(path.read_text("utf-8"))
    assert document.problems == []
    return document, "".join(document.text)


def _one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_becomes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["sweep", "--group", "p4", "-r", "1", "-s", "1", "-k", "3", "--out", str(tmp_path / "sweep")]
    assert _run(monkeypatch, *grid, "--html", str(tmp_path / "page.html")) == 0
    document, text = _page(tmp_path / "page.html")
    assert document.all("img")
    assert "12,813,856" in text
    capsys.readouterr()
    assert _run(monkeypatch, *grid, "--html", str(tmp_path)) == 2
    _one_error(capsys)


def test_a_comparison_becomes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    files = []
    for name in ("p4-cnn", "e4net"):
        assert _run(monkeypatch, "count", name, "--format", "json", "--counter", "closed-form,dispatch") == 0
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(capsys.readouterr().out)
        assert json.loads(files[-1].read_text())
    page = str(tmp_path / "page.html")
    assert _run(monkeypatch, "guard", "diff", *map(str, files), "--html", page) == 1
    _, text = _page(tmp_path / "page.html")
    assert "e4net.json against p4-cnn.json" in text
    capsys.readouterr()
    assert _run(monkeypatch, "guard", "diff", *map(str, files), "--html", str(files[0] / "page.html")) == 2
    _one_error(capsys)


@pytest.mark.parametrize("mode", [(), ("--against", "z2cnn"), ("--breakdown",)])
def test_timings_become_a_page_with_where_they_were_taken(
    mode: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ["--min-run-time-s", "0.01", "--max-run-time-s", "0.05"]
    assert _run(monkeypatch, "time", "z2cnn", *quick, *mode, "--html", str(tmp_path / "page.html")) == 0
    _, text = _page(tmp_path / "page.html")
    assert "measured with device" in text
