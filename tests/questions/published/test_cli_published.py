"""The published tables on the command line: costs as lines, test errors beside them, every cell for programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from program import Run, says

from e4profile.networks.published import judge
from e4profile.questions.published.as_printed import rule_of_rounding
from e4profile.questions.published.rows import CARRIED, COST, TABLE_COLUMNS, BuiltCell, build_row, published_text
from e4profile.questions.published.tables import exact_table, readable_table, shown_cells
from e4profile.subjects.subject import resolve


def test_programs_get_every_cell_with_its_kind(run: Run) -> None:
    rows = json.loads(run("published", "4", "-f", "json").out)
    assert all(list(row) == list(TABLE_COLUMNS) for row in rows)
    kinds = {row["quantity"]: row["kind"] for row in rows}
    assert kinds == {"params": COST, "flops": COST, "test_error_cifar10": CARRIED, "test_error_cifar100": CARRIED}
    read = list(csv.DictReader(io.StringIO(run("published", "4", "-f", "csv").out)))
    assert [row["kind"] for row in read] == [row["kind"] for row in rows]


def test_several_tables_are_those_tables_one_after_the_other(run: Run) -> None:
    both = run("published", "2,flopping", "-f", "json")
    alone = [json.loads(run("published", name, "-f", "json").out) for name in ("2", "flopping")]
    rows = [{**{"table": name}, **row} for name, found in zip(("2", "flopping"), alone, strict=True) for row in found]
    assert json.loads(both.out) == rows
    assert "published cost cells" in both.err
    assert run("published", "flopping", "2", "2", "-f", "csv").out.splitlines()[1].startswith("flopping,")
    code, out, err = run("published", "1", "nine")
    assert (code, out) == (2, "")
    assert "unknown table 'nine'" in err


def test_readers_get_a_line_per_cost_with_the_test_error_beside_it(run: Run) -> None:
    out = run("published", "2").out
    header, _, *lines = out.split("\n\n")[1].splitlines()
    assert "test error" in header
    for line in lines:
        assert line.startswith(("reproduced", "unresolved"))
        assert "±" in line
    assert len(lines) == 8


def test_a_quantity_carried_without_a_cost_keeps_its_line() -> None:
    card = resolve("r18")
    cells = [cell for row in card.published for cell in build_row(card, row)]
    assert {cell.kind for cell in shown_cells(cells)} == {COST}
    alone = [cell for cell in cells if cell.kind == CARRIED]
    assert shown_cells(alone) == alone
    table = readable_table("4", alone)
    assert [row["verdict"] for row in table.rows] == ["published"] * len(alone)
    assert [row["quantity"] for row in exact_table("4", cells).rows] == [cell.cell.quantity for cell in cells]


@pytest.mark.parametrize("name", ["1", "3"])
def test_no_error_is_set_beside_the_cost_of_another_row(run: Run, name: str) -> None:
    exact = json.loads(run("published", name, "-f", "json").out)
    errors = {row["row"]: row["published"] for row in exact if row["kind"] == CARRIED}
    assert len(set(errors.values())) > 3
    lines = [line for line in run("published", name).out.splitlines() if line.startswith("reproduced")]
    costs = [row for row in exact if row["kind"] == COST]
    assert len(lines) == len(costs)
    for line, row in zip(lines, costs, strict=True):
        assert row["row"] in line
        assert errors[row["row"]] in line


def test_a_caption_does_not_begin_with_another_number(run: Run) -> None:
    out = run("published", "4", "-f", "latex").out
    assert r"\caption{Costs of Table 4 of He et al. 2021, rebuilt: CIFAR." in out


def test_the_paper_s_own_layout_has_its_rows_and_digits(run: Run) -> None:
    rows = {row["row"]: row for row in json.loads(run("published", "3", "--as-printed", "-f", "json").out)}
    printed = {(row.row, cell.quantity): published_text(cell)
               for row in resolve("e4net-printed").published if row.table == "3" for cell in row.cells}  # fmt: skip
    assert {(name, key): value for name, row in rows.items() for key, value in row.items() if key != "row"} == printed
    assert list(rows) == ["s=1", "s=2", "s=4", "r=1", "r=2", "r=4", "k=3", "k=5", "k=7"]
    differs = run("published", "4", "--as-printed", "-f", "json").out
    assert "6.3M [5.8M]" in differs
    assert differs.count(" [") == 4
    assert run("published", "implicit", "--as-printed").code == 2


def cell(figure: str, built: int, rounding: str = "rounded") -> BuiltCell:
    (row, *_) = resolve("e4net-printed").published
    one = replace(row.cells[0], quantity="params", value=figure, rounding=rounding)
    return BuiltCell(resolve("e4net-printed"), row, one, built, judge(built, one).verdict, None)


def test_a_table_says_when_no_single_rule_of_rounding_fits() -> None:
    up, cut = cell("23.8K", 23_782), cell("18.8K", 18_886, "truncated")
    either, wrong = cell("16.3K", 16_336), cell("5.8M", 6_343_178)
    (said,) = rule_of_rounding([up, cut, either, wrong])
    assert says(said, "no single rule", "18.8K for 18,886 only when truncated", "23.8K for 23,782 only when rounded")
    assert rule_of_rounding([up, either, wrong]) == rule_of_rounding([cut, either, wrong]) == []
