"""The JSON of ``count``: what it says, and how two of them are compared, with rows of an earlier version too."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e4profile.errors import SettingError
from e4profile.questions.count.rows import count_rows
from e4profile.records.comparison import compare_files
from e4profile.records.count_document import agreement, count_document, document_text, totals
from e4profile.records.files import Key
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure

EXACT = ("closed-form", "dispatch")


def row(path: str, params: int, dispatch: int, closed: int | None = None, agrees: bool | None = True) -> dict[str, Any]:
    return {
        "agrees": agrees, "path": path, "layer": "Conv2d", "params": params, "closed_form": closed, "dispatch": dispatch
    }  # fmt: skip


ROWS = (row("", 3, 0, 0), row("a", 1, 10, 10), row("b", 2, 20, 20))


def document(
    file: Path, *, rows: Sequence[dict[str, Any]] = ROWS, model: str = "net", convention: str = "macs", **arguments: Any
) -> Path:
    made = count_document(model, rows, arguments=arguments, inputs="1x3x8x8", convention=convention)
    file.write_text(document_text(made), encoding="utf-8")
    return file


def test_totals_are_sums_and_say_what_is_missing() -> None:
    assert totals(ROWS) == {"params": 6, "closed_form": 30, "dispatch": 30}
    without = (*ROWS, row("c", 1, 5, None, None))
    assert totals(without) == {"params": 7, "closed_form": None, "dispatch": 35}
    assert agreement(without) is None
    assert totals(()) == {}
    assert totals((), ["agrees", "path", "params", "dispatch"]) == {"params": 0, "dispatch": 0}
    assert agreement(()) is None


def test_a_row_where_nothing_is_to_be_counted_lacks_no_closed_form() -> None:
    pooled = (*ROWS, row("pool", 0, 0, None, None))
    assert totals(pooled) == totals(ROWS)
    assert agreement(pooled) is True
    assert agreement((*pooled, row("d", 1, 1, 2, False))) is False


def test_a_network_that_only_norms_has_totals_of_nothing() -> None:
    normed = (row("", 0, 0, None, None),)
    assert totals(normed) == {"params": 0, "closed_form": 0, "dispatch": 0}


def test_unknown_operators_leave_the_agreement_open() -> None:
    assert agreement(ROWS) is True
    assert agreement(ROWS, at_least=True) is None
    assert agreement((row("d", 1, 1, 2, False),), at_least=True) is False


def test_an_unknown_operator_leaves_its_layer_open() -> None:
    measured = measure(resolve("e4net").with_arguments({"width": 2}), EXACT)
    paths = [one["path"] for one in count_rows(measured, EXACT)]
    ran = replace(measured.dispatch, uncounted={"a::b": 1}, uncounted_in={"a::b": ("layer2.conv.squeeze_norm", "pool")})
    rows = count_rows(replace(measured, dispatch=ran), EXACT)
    assert {one["path"]: one["agrees"] for one in rows} == {**dict.fromkeys(paths, True), "layer2.conv": None}


def test_the_document_of_a_card_adds_up() -> None:
    card = resolve("e4net").with_arguments({"width": 2})
    measured = measure(card, EXACT)
    rows = count_rows(measured, EXACT)
    made = count_document("e4net", rows, arguments=card.arguments, inputs="1x1x28x28", convention="macs")
    assert made["totals"]["dispatch"] == made["totals"]["closed_form"] == measured.dispatch.macs
    assert made["totals"]["params"] == measured.dispatch.params
    assert (made["model"], made["convention"], made["agrees"]) == ("e4net", "macs", True)
    assert made["layers"] == rows
    assert json.loads(document_text(made)) == json.loads(json.dumps(made))


def test_values_that_json_lacks_are_text() -> None:
    odd = {"a": math.nan, "b": [math.inf, None], "c": {1: True}}
    made = count_document("n", (), arguments=odd, inputs="", convention="macs")
    assert json.loads(document_text(made))["arguments"] == {"a": "nan", "b": ["inf", None], "c": {"1": True}}
    assert made["layers"] == []


def test_layers_and_totals_of_two_counts(tmp_path: Path) -> None:
    before = document(tmp_path / "a.json", width=1)
    after = document(tmp_path / "b.json", rows=(*ROWS[:2], row("b", 2, 21, 21)), width=2)
    assert compare_files(before, before).holds
    found = compare_files(before, after)
    assert [(one.key, one.quantity, one.before, one.after) for one in found.different] == [
        (Key("net"), "closed_form", 30, 31),
        (Key("net"), "dispatch", 30, 31),
        (Key("net", "b"), "closed_form", 20, 21),
        (Key("net", "b"), "dispatch", 20, 21),
    ]
    assert found.notes == ("a.json: net (width=1) on 1x3x8x8", "b.json: net (width=2) on 1x3x8x8")
    assert Key("net", "(network)") in {one.key for one in found.counts}


def test_two_networks_pair_by_layer(tmp_path: Path) -> None:
    found = compare_files(document(tmp_path / "a.json"), document(tmp_path / "b.json", model="other"))
    assert found.holds
    assert {one.key.model for one in found.counts} == {""}
    assert len(found.notes) == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_rows_of_an_earlier_version_are_still_read(tmp_path: Path, swapped: bool) -> None:
    older = tmp_path / "old.json"
    older.write_text(json.dumps(ROWS))
    files = (document(tmp_path / "a.json"), older)
    found = compare_files(*(reversed(files) if swapped else files))
    assert found.holds
    assert len(found.counts) == 4 * len(ROWS)
    older.write_text(json.dumps([*ROWS[:2], row("b", 2, 21, 20)]))
    assert [one.key.layer for one in compare_files(*files).different] == ["b"]


def test_conventions_do_not_mix(tmp_path: Path) -> None:
    files = document(tmp_path / "a.json"), document(tmp_path / "b.json", convention="flops")
    with pytest.raises(SettingError, match=r"counts by 'macs' and .* by 'flops'"):
        compare_files(*files)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_marks_that_editors_and_shells_leave_are_read(tmp_path: Path, encoding: str) -> None:
    plain = document(tmp_path / "a.json")
    marked = tmp_path / "b.json"
    marked.write_text(plain.read_text(encoding="utf-8"), encoding=encoding)
    if encoding == "utf-16-le":  # without a mark nothing says what it is
        with pytest.raises(SettingError, match=r"b.json: "):
            compare_files(plain, marked)
    else:
        assert compare_files(plain, marked).holds


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "a count of schema 2; this version reads 1"),
        ({"schema": None}, "a count of schema None"),
        ({"model": 3}, r"model \(=3\) must be a str"),
        ({"totals": []}, r"totals \(=\[\]\) must be a dict"),
        ({"layers": {}}, r"layers \(=\{\}\) must be a list"),
        ({"layers": [1]}, "layer 0 is not an object with a path"),
        ({"layers": [{"path": "a"}, {"params": 1}]}, "layer 1 is not an object with a path"),
        ({"layers": [ROWS[1], ROWS[1]]}, "two rows for a: they cannot be told apart"),
    ],
)
def test_a_damaged_count_says_where(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    good = document(tmp_path / "a.json")
    bad = tmp_path / "b.json"
    bad.write_text(json.dumps({**json.loads(good.read_text()), **change}))
    with pytest.raises(SettingError, match=reason):
        compare_files(good, bad)


def test_a_lower_bound_equals_nothing(tmp_path: Path) -> None:
    """Neither itself nor another; a layer whose two counters agree is exact all the same, and parameters are."""
    rows = (row("a", 1, 10, 10), row("b", 2, 20, 20, None))

    def bounded(name: str) -> Path:
        made = count_document("net", rows, arguments={}, inputs="1x3x8x8", convention="macs", at_least=True)
        (tmp_path / name).write_text(document_text(made), encoding="utf-8")
        return tmp_path / name

    found = compare_files(bounded("a.json"), bounded("b.json"))
    verdicts = {(one.key.layer, one.quantity): one.verdict for one in found.counts}
    assert {key for key, verdict in verdicts.items() if verdict == "ambiguous"} == {
        (layer, witness) for layer in ("", "b") for witness in ("closed_form", "dispatch")
    }
    assert {verdicts[key] for key in verdicts if verdicts[key] != "ambiguous"} == {"equal"}
    assert not found.holds
    against = compare_files(bounded("a.json"), document(tmp_path / "c.json", rows=rows))
    assert {one.quantity for one in against.different if one.verdict == "ambiguous"} == {"closed_form", "dispatch"}
    assert {one.verdict for one in against.different} <= {"ambiguous", "differs"}
