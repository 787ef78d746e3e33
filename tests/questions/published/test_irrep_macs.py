"""The column of the irrep basis in the published tables: built and counted, beside cells that stay as they are."""

from __future__ import annotations

import pytest

from e4profile.networks.cards import all_cards
from e4profile.questions.published import rows as published
from e4profile.questions.published import steerable
from e4profile.questions.published.rows import build_row, build_table
from e4profile.questions.published.tables import as_table
from e4profile.subjects.subject import of_card, resolve
from e4profile.witnesses.counts.measure import measure


@pytest.mark.parametrize("table", ["1", "4"])
def test_the_column_is_what_the_network_built_so_runs(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = all_cards()
    asked = ("p4-sa", "p4-cnn", "e4net-printed") if table == "1" else ("r18", "p4m-r18", "p4m-e4r18-printed")
    monkeypatch.setattr(published, "all_cards", lambda: {name: cards[name] for name in asked})
    cells = build_table(table)
    for cell in cells:
        if cell.executed_macs is None:
            assert cell.irrep_macs is None
            continue
        ran = measure(cell.card.executed("irreps"), ("closed-form", "dispatch"))
        assert ran.agrees
        if ran.dispatch.macs == cell.executed_macs:
            assert cell.irrep_macs is None, cell.row.row
        else:
            assert cell.irrep_macs == ran.dispatch.macs, cell.row.row
    found = {cell.row.row: cell.irrep_macs for cell in cells if cell.executed_macs is not None}
    none = {"1": {"p4_SA"}, "4": {"R18"}}[table]
    assert none <= {row for row, macs in found.items() if macs is None}
    assert {"1": {"p4_CNN", "E4-Net"}, "4": {"p4m-R18", "p4m-E4R18"}}[table] <= {row for row in found if found[row]}
    shown = as_table(table, cells, for_programs=False)
    assert [row["irrep_macs"] for row in shown.rows if row["executed_macs"]] == [*found.values()]
    assert "MACs in the irrep basis" in {column.header for column in shown.columns}


def test_a_separable_network_and_its_plain_sibling_have_their_own() -> None:
    plain, p4m = (all_cards()[name] for name in ("resnet44", "p4m-resnet44"))
    macs = {
        card.name: [cell.irrep_macs for cell in build_row(of_card(card), card.published[0]) if cell.executed_macs]
        for card in (plain, p4m)
    }
    assert macs["resnet44"] == [None]
    assert 0 < macs["p4m-resnet44"][0] * 5 < 3_069_943_312


def test_the_steerable_networks_have_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = all_cards()
    monkeypatch.setattr(
        steerable, "irrep_macs", lambda subject, macs: macs // 2 if subject.name == "d4resnet18" else None
    )
    monkeypatch.setattr(
        steerable, "built_in_cards", lambda: {name: cards[name] for name in ("d4resnet18", "c4resnet18")}
    )
    rows = {row["model"]: row for row in steerable.steerable_table().rows}
    assert rows["d4resnet18"]["irrep_macs"] == rows["d4resnet18"]["inference_macs"] // 2
    assert rows["c4resnet18"]["irrep_macs"] is None
    lines = [one["row"] for one in steerable.steerable_objects() if one["quantity"] == "irrep_macs"]
    assert lines == ["d4resnet18"]


def test_an_execution_that_was_asked_for_leaves_nothing_to_compare() -> None:
    subject = resolve("p4m-r18")
    cells = build_row(subject, subject.published[0], "irreps")
    assert [cell.irrep_macs for cell in cells if cell.executed_macs] == [None]
