"""Pages in a real browser: no error, sorting, filtering, downloading, colours, no width but the screen's."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import chromium
import pytest
from page_sample import EVIL, figure, table

from e4profile.show.html.page import write_page
from e4profile.show.tables import render

if chromium.PROGRAM is None:
    pytest.skip("needs chromium on the path", allow_module_level=True)

HELPERS = """
const box = document.querySelector("div.table");
const column = (n) => [...box.querySelectorAll("tbody tr")].filter((row) => !row.hidden)
  .map((row) => (row.cells[n].querySelector("summary") || row.cells[n]).textContent.trim());
const head = (n) => box.querySelectorAll("thead th")[n];
const click = (n) => head(n).querySelector("button").click();
const status = () => box.querySelector(".status").textContent;
const type = (text) => { const s = box.querySelector("input"); s.value = text; s.dispatchEvent(new Event("input")); };
const pick = (n, value) => { const s = box.querySelectorAll("select")[n]; s.value = value;
  s.dispatchEvent(new Event("change")); };
const csv = () => decodeURIComponent(box.querySelector("a.download").href.split(/,(.*)/s)[1]);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_page(folder / "page.html", f"Results {EVIL}", [table(), table(4)], figure(folder))
    return folder / "page.html"


def look(page: Path, script: str, *flags: str) -> object:
    seen = chromium.look(page, HELPERS + script, *flags)
    assert seen.console == []
    return seen.result


def test_a_broken_page_is_seen_as_broken(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<body><script>missing();</script><img src='http://192.0.2.1/x'></body>")
    seen = chromium.look(tmp_path / "page.html", "return 1")
    assert seen.result == 1
    assert "missing is not defined" in seen.console[0]


def test_it_opens_whole_and_its_figure_is_drawn(page: Path) -> None:
    title, images, hidden = look(page, """
        return [document.title, [...document.images].map((i) => i.complete && i.naturalWidth > 100),
                document.querySelectorAll(".script[hidden]").length]""")  # fmt: skip
    assert title == f"Results {EVIL}"
    assert images == [True]
    assert hidden == 0


def test_columns_sort_by_value_both_ways_and_say_so(page: Path) -> None:
    found = look(page, """
        const state = () => [column(2), head(2).getAttribute("aria-sort"), status(),
                             box.querySelectorAll("[aria-sort]").length];
        click(0); click(2); const up = state(); click(2); return [up, state()]""")  # fmt: skip
    counts = [f"{10**n:,}" for n in range(12) if n != 3]
    up, down = found
    assert up == [[*counts, "–"], "ascending", "12 of 12 rows, by MACs, ascending", 1]
    assert down == [[*reversed(counts), "–"], "descending", "12 of 12 rows, by MACs, descending", 1]


def test_negative_percentages_and_fractions_sort_by_value(page: Path) -> None:
    ratios, percentages = look(page, "click(3); const a = column(3); click(4); return [a, column(4)]")
    assert ratios == [f"{n / 3:.3f}" for n in range(12)]
    assert percentages == [f"{-1.5 * n:.2f}%" for n in reversed(range(1, 12))] + ["0.00%"]


def test_texts_sort_as_people_count(page: Path) -> None:
    rows = look(page, "click(0); return column(0)")
    assert [row.split()[1] for row in rows] == [str(n) for n in range(12)]


def test_search_and_choices_leave_the_matching_rows(page: Path) -> None:
    found = look(page, """
        type("UNRESOLVED"); const one = [column(0), status()]; type("");
        const names = [...box.querySelectorAll(".filters label")].map((l) => l.firstChild.textContent.trim());
        pick(0, "5"); const fives = column(1); type("row 4"); const both = column(0);
        return [one, names, fives, both]""")  # fmt: skip
    one, names, fives, both = found
    assert one == [["row 2"], "1 of 12 rows"]
    assert names == ["Search", "kernel", "verdict"]
    assert fives == ["5"] * 4
    assert both == ["row 4"]


def _records(text: str) -> Sequence[Sequence[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_download_holds_the_rows_that_are_shown(page: Path) -> None:
    everything, part, again = look(
        page,
        """
        const all = csv(); pick(0, "7"); const part = csv(); pick(0, ""); return [all, part, csv()]""",
    )
    assert everything == again == render(table(), "csv")
    whole = _records(everything)
    assert _records(part) == [whole[0], *(row for row in whole[1:] if row[1] == "7")]
    assert len(_records(part)) == 5


def test_evidence_opens_and_everything_opens_for_paper(page: Path) -> None:
    before, after, closed = look(
        page,
        """
        const open = () => document.querySelectorAll("main details[open]").length;
        box.querySelector("summary").click(); const before = open();
        dispatchEvent(new Event("beforeprint")); const printed = open() === document.querySelectorAll("details").length;
        dispatchEvent(new Event("afterprint")); return [before, printed, open()]""",
    )
    assert (before, after, closed) == (1, True, 1)


@pytest.mark.parametrize(("flags", "first"), [((), "light"), (("--force-dark-mode",), "dark")])
def test_colours_follow_the_system_and_the_button(page: Path, flags: tuple[str, ...], first: str) -> None:
    found = look(page, """
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const button = document.getElementById("theme");
        const found = [paper(), button.textContent]; button.click(); found.push(paper(), button.textContent);
        return found""", *flags)  # fmt: skip
    light, dark = ["rgb(255, 255, 255)", "Dark colours"], ["rgb(15, 20, 25)", "Light colours"]
    assert found == (light + dark if first == "light" else dark + light)


def test_a_narrow_screen_scrolls_tables_not_the_page(page: Path) -> None:
    width, content = look(page, "return [innerWidth, document.documentElement.scrollWidth]", "--window-size=500,800")
    assert content <= width


def test_everything_that_can_be_clicked_can_be_reached_by_keyboard(page: Path) -> None:
    unreachable, unnamed = look(
        page,
        """
        const all = [...document.querySelectorAll("a, button, input, select, summary, .scroll")];
        const named = (one) => one.textContent.trim() || one.labels?.length || one.ariaLabel ||
          one.getAttribute("aria-labelledby");
        return [all.filter((one) => one.tabIndex < 0).length, all.filter((one) => !named(one)).length]""",
    )
    assert (unreachable, unnamed) == (0, 0)
