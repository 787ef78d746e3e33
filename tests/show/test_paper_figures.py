"""Figures as a paper wants them: its width and type, whole fonts, text as text, the same bytes each time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e4profile.errors import UnknownNameError
from e4profile.questions.figures import draw
from e4profile.show.paper import Paper, on_paper

RECORDS = Path(__file__).parents[2] / "reports"


def test_a_pdf_has_the_width_and_whole_fonts_and_no_title(tmp_path: Path) -> None:
    asked = Paper(width_cm=12.7, font="serif", font_points=9, bare=True)
    with on_paper(asked):
        first = [*draw("ratio-map", ["e4net"], tmp_path / "a.pdf"), *draw("ratio-map", ["e4net"], tmp_path / "b.pdf")]
        (svg,) = draw("ratio-map", ["e4net"], tmp_path / "c.svg")
    assert [path.name for path in first] == ["a.pdf", "b.pdf"]
    content = first[0].read_bytes()
    assert content == first[1].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+)", content)
    assert float(box) == pytest.approx(360)
    text = svg.read_text(encoding="utf-8")
    assert "against group convolutions" not in text
    assert "DejaVu Serif" in text
    assert {float(size) for size in re.findall(r"([\d.]+)px", text)} == {9.0}


@pytest.mark.parametrize(("kind", "models"), [("terms", ("e4net",)), ("roofline", ()), ("share", ()), ("accuracy", ())])
def test_text_stays_text_in_seven_points_or_more(tmp_path: Path, kind: str, models: tuple[str, ...]) -> None:
    for path in draw(kind, models, tmp_path, formats=["svg"], records=RECORDS):
        text = path.read_text(encoding="utf-8")
        sizes = [float(size) for size in re.findall(r"([\d.]+)px", text)]
        assert len(sizes) > 5
        assert min(sizes) >= 7


def test_a_font_that_is_not_here_is_refused_by_name(tmp_path: Path) -> None:
    with on_paper(Paper(font="DejaVu Sanz")), pytest.raises(UnknownNameError, match="DejaVu Sans"):
        draw("terms", ["e4net"], tmp_path / "x.pdf")
