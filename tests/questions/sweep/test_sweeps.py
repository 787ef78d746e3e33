from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from program import says

import e4profile.questions.sweep.sweeps as sweeps
from e4profile import layers
from e4profile.errors import SettingError, UnknownNameError
from e4profile.groups import as_group
from e4profile.networks import NETWORKS
from e4profile.networks.cards import all_cards
from e4profile.questions.sweep.figures import counter_rows, studies
from e4profile.questions.sweep.plans import Setting, make_plan
from e4profile.questions.sweep.sweeps import COLUMNS, Sweep, columns_of
from e4profile.questions.sweep.table import sweep_table
from e4profile.records.claims import Claims
from e4profile.records.store import Record, RecordStore
from e4profile.show.tables import render
from e4profile.witnesses.counts import closed_form
from e4profile.witnesses.counts.registry import REGISTRY

SMALL: dict[str, Any] = {"reductions": [1, 2], "slices": [1, 2], "kernels": [3], "widths": [2]}
_RECORDS: dict[str, Record] = {}


def _counting(monkeypatch: pytest.MonkeyPatch, records: dict[str, Record]) -> list[str]:
    seen: list[str] = []
    real = sweeps.measure_setting

    def counting(setting: Setting, counters: Sequence[str]) -> Record:
        seen.append(setting.describe())
        versions = sweeps.counter_versions(counters)
        asked = Record(card=setting.model, arguments=setting.arguments, counts={}, counters=versions)
        if asked.key not in records:
            records[asked.key] = real(setting, counters)
        return records[asked.key]

    monkeypatch.setattr(sweeps, "measure_setting", counting)
    return seen


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings that a sweep asked to be measured, in order; the same one gives the same record in every test."""
    return _counting(monkeypatch, _RECORDS)


class _Forgets(dict[str, Record]):
    def __contains__(self, key: object) -> bool:
        return False


@pytest.fixture
def measured_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same with counters that the test replaces: each is measured whenever it is asked for."""
    return _counting(monkeypatch, _Forgets())


def finish(plan: Sequence[Setting], store: RecordStore | None = None) -> Sweep:
    running = Sweep(plan, store)
    for _ in running.run():
        pass
    return running


def test_the_default_plan_is_the_papers_grid_with_its_baselines() -> None:
    plan = make_plan(groups=["p4"])
    assert len(plan) == 3 * (1 + 9)
    assert sum(setting.baseline for setting in plan) == 3
    assert {s.subject.arguments["width"] for s in plan} == {16}


def test_what_cannot_exist_is_skipped_with_its_reason() -> None:
    running = finish(make_plan(reductions=[1, 3], slices=[1, 5], kernels=[3]))
    assert len(running.rows()) == 2
    skipped = [skip.setting.subject.arguments for skip in running.skipped]
    assert [(one["reduction"], one["slices"]) for one in skipped] == [(1, 5), (3, 1), (3, 5)]
    assert running.skipped[0].reason == "slices (=5) must divide c_out (=16): 1, 2, 4, 8, 16"
    assert running.skipped[1].reason == "reduction (=3) must divide c_in (=16): 1, 2, 4, 8, 16"


def test_a_value_given_twice_is_measured_once() -> None:
    plan = make_plan(["e4net", "e4net"], ["p4", "C4"], reductions=[1, 1], slices=[1, 1], kernels=[3, 3], widths=[2, 2])
    assert len(plan) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernels": [4]}, r"kernel \(=4\) must be odd"),
        ({"kernels": [0]}, r"kernel \(=0\)"),
        ({"reductions": [-1]}, r"reduction \(=-1\)"),
        ({"widths": [0]}, r"width \(=0\)"),
        ({"widths": list(range(1, 3001))}, "90,000 settings; at most 10,000 are counted"),
        ({"slices": []}, "slices: give at least one value"),
        ({"models": ["r18"], "slices": [2]}, r"r18 has no E4 layers, so it takes no slices \(=2\)"),
    ],
)
def test_bad_axes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make_plan(**values)


def test_a_sweep_of_what_cannot_exist_measures_nothing_but_says_why(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    with pytest.raises(SettingError, match=r"no setting of this sweep can exist: reduction \(=3\) must divide c_in"):
        finish(make_plan(reductions=[3], slices=[1], kernels=[3]), store)
    assert store.load() == []


def test_a_setting_is_built_once_and_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(what: str, function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*positional: Any, **keywords: Any) -> Any:
            calls[what] += 1
            return function(*positional, **keywords)

        return wrapper

    monkeypatch.setitem(NETWORKS, "rot_mnist", counted("built", NETWORKS["rot_mnist"]))
    for module in (closed_form, layers):
        monkeypatch.setattr(module, "trace", counted("walked", module.trace))
    running = finish(make_plan(reductions=[1], slices=[1], kernels=[3], widths=[4]))
    assert [outcome.record.counts["failures"] for outcome in running.outcomes] == [{}, {}]
    assert calls == {"built": 2, "walked": 2}


def test_the_group_is_one_object_from_the_plan_to_the_record() -> None:
    given = as_group("p4m")
    (baseline, setting) = make_plan(groups=[given], reductions=[1], slices=[1], kernels=[3], widths=[4])
    assert setting.group is baseline.group is setting.subject.argument("group") is given
    assert setting.arguments["group"] == "p4m"
    assert "group=p4m" in setting.describe()
    assert finish([baseline, setting]).rows()[1]["group"] == "p4m"


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean e4net"):
        make_plan(["e4nt"])
    with pytest.raises(UnknownNameError, match="unknown group"):
        make_plan(groups=["p5"])


def test_rows_hold_exact_numbers_and_ratios_to_the_right_baseline(measured: list[str]) -> None:
    rows = finish(make_plan(groups=["p4", "z2"], **{**SMALL, "kernels": [3, 5], "slices": [1]})).rows()
    assert all(tuple(row) == COLUMNS for row in rows)
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert row["agrees"] is True
        assert row["params_formula"] == row["params_measured"]
        assert row["macs_formula"] == row["macs_measured"]
        (base,) = [
            b for b in rows
            if b["model"] == "e4net-gcnn" and (b["group"], b["kernel"]) == (row["group"], row["kernel"])
        ]  # fmt: skip
        assert row["macs_ratio"] == Fraction(row["macs_measured"], base["macs_measured"])
        assert row["params_ratio"] == Fraction(row["params_measured"], base["params_measured"])
        assert (row["reduction"] is None) == (row is base)


def test_a_sweep_resumes(tmp_path: Path, measured: list[str]) -> None:
    plan, store = make_plan(**SMALL), RecordStore(tmp_path / "records.jsonl")
    first = finish(plan, store).rows()
    assert len(measured) == 5
    again = finish(plan, RecordStore(store.path))
    assert len(measured) == 5
    assert all(outcome.resumed for outcome in again.outcomes)
    assert again.rows() == first
    wider = finish(make_plan(**{**SMALL, "reductions": [1, 2], "widths": [2, 4]}), RecordStore(store.path))
    assert len(measured) == 10
    assert [row for row in wider.rows() if row["width"] == 2] == first


def test_an_interrupted_sweep_keeps_what_was_finished(tmp_path: Path, measured: list[str]) -> None:
    plan, store = make_plan(**SMALL), RecordStore(tmp_path / "records.jsonl")
    run = Sweep(plan, store).run()
    next(run)
    next(run)
    run.close()  # type: ignore[attr-defined]
    finish(plan, RecordStore(store.path))
    assert len(measured) == 5
    assert len(store.load()) == 5


def test_a_line_cut_short_is_dropped_with_a_note_and_measured_again(tmp_path: Path, measured: list[str]) -> None:
    plan, store = make_plan(**SMALL), RecordStore(tmp_path / "records.jsonl")
    rows = finish(plan, store).rows()
    text = store.path.read_text()
    store.path.write_text(text[:-40])
    store = RecordStore(store.path)
    assert finish(plan, store).rows() == rows
    assert len(measured) == 6
    assert any("cut short" in note for note in store.notes)
    assert len(RecordStore(store.path).load()) == 5


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("damage", [{"macs_measured": 7}, {"terms": None}, {}])
def test_a_damaged_record_is_kept_noted_and_measured_again(
    tmp_path: Path, measured: list[str], checksum: bool, damage: dict[str, object]
) -> None:
    plan, store = make_plan(**{**SMALL, "reductions": [1], "slices": [1]}), RecordStore(tmp_path / "records.jsonl")
    rows = finish(plan, store).rows()
    first, *others = map(json.loads, store.path.read_text().splitlines())
    first["counts"] = {**first["counts"], **damage} if damage else {}
    lines = [first, *others]
    kept = "".join(f"{json.dumps(line)}\n" for line in lines)
    if not checksum:
        kept = "".join(f"{json.dumps({k: v for k, v in line.items() if k != 'checksum'})}\n" for line in lines)
    store.path.write_text(kept)
    again = RecordStore(store.path)
    assert finish(plan, again).rows() == rows
    assert len(measured) == len(lines) + 1
    assert ["line 1 is skipped" in note for note in again.notes] == [True]
    assert store.path.read_text().startswith(kept)


def test_every_line_describes_itself(tmp_path: Path, measured: list[str]) -> None:
    store = RecordStore(tmp_path / "records.jsonl")
    finish(make_plan(**SMALL), store)
    for line in store.path.read_text().splitlines():
        record = json.loads(line)
        assert record["schema"] == 1
        assert record["arguments"]["input"] == "1x28x28"
        assert record["arguments"]["network"] == "rot_mnist"
        assert set(record["counters"]) == {"closed-form", "dispatch", "fvcore", "thop"}
        assert record["environment"]
        assert record["counts"]["unknown"] == {}
        for gap in record["counts"]["gaps"].values():
            assert gap["unexplained"] == 0
        assert sum(record["counts"]["terms"].values()) == record["counts"]["macs_measured"]


def test_an_edited_card_of_the_same_name_is_other_work(tmp_path: Path, measured: list[str]) -> None:
    text = 'name = "mine"\nnetwork = "rot_mnist"\ninput = [1, 28, 28]\n[arguments]\ngroup = "p4"\nwidth = 2\n'
    path, store = tmp_path / "mine.toml", tmp_path / "records.jsonl"
    macs = []
    for size in (28, 32, 28):
        path.write_text(text.replace("28, 28", f"{size}, {size}"))
        plan = make_plan([str(path)], **{**SMALL, "slices": [1], "widths": None})
        macs.append([row["macs_measured"] for row in finish(plan, RecordStore(store)).rows()])
    assert macs[0] == macs[2]
    assert all(small < large for small, large in zip(macs[0], macs[1], strict=True))
    assert len(measured) == 6


def test_another_counter_version_is_other_work(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, path = make_plan(**{**SMALL, "reductions": [1], "slices": [1]}), tmp_path / "records.jsonl"
    finish(plan, RecordStore(path))
    versions = {**sweeps.counter_versions(), "thop": "missing"}
    monkeypatch.setattr(sweeps, "counter_versions", lambda _: versions)
    finish(plan, RecordStore(path))
    assert len(measured) == 4


def test_two_sweeps_at_once_into_one_folder(tmp_path: Path, measured: list[str]) -> None:
    plan, path = make_plan(**SMALL), tmp_path / "records.jsonl"
    runs = [Sweep(plan, RecordStore(path)) for _ in range(2)]
    # interleaved line by line; tests of the store do the same with processes
    iterators = [run.run() for run in runs]
    for _ in plan:
        for iterator in iterators:
            next(iterator)
    assert runs[0].rows() == runs[1].rows()
    again = finish(plan, RecordStore(path))
    assert all(outcome.resumed for outcome in again.outcomes)
    assert again.rows() == runs[0].rows()


def test_what_another_process_has_claimed_comes_later_and_the_table_is_the_same(
    tmp_path: Path, measured: list[str]
) -> None:
    plan = make_plan(**{**SMALL, "slices": [3, 1, 2], "reductions": [1, 3]})
    alone = finish(plan, RecordStore(tmp_path / "alone" / "records.jsonl"))
    store, others = RecordStore(tmp_path / "records.jsonl"), Claims(tmp_path / "claims")
    versions = sweeps.counter_versions()
    keys = [
        Record(card=one.model, arguments=one.arguments, counts={}, counters=versions).key
        for one in plan
        if not one.baseline
    ]
    # the first cannot exist, the second can
    assert all(others.take(key) for key in keys[:2])
    said: list[str] = []

    def waiting(text: str) -> None:
        said.append(text)
        others.__exit__(None, None, None)

    running = Sweep(plan, store)
    assert len(list(running.run(waiting))) == len(alone.outcomes)
    assert said == [f"waiting for 2 settings that other processes have claimed in {tmp_path / 'claims'}"]
    text, expected = (render(sweep_table(one), "json") for one in (running, alone))
    assert text == expected
    assert [skip.reason for skip in running.skipped] == [skip.reason for skip in alone.skipped]
    assert not others.folder.exists()


def test_two_records_of_one_setting_that_disagree_are_named(tmp_path: Path, measured: list[str]) -> None:
    plan, store = make_plan(**{**SMALL, "reductions": [1], "slices": [1]}), RecordStore(tmp_path / "records.jsonl")
    rows = finish(plan, store).rows()
    first = store.load()[0]
    store.append(replace(first, counts={**first.counts, "fvcore": 7}))
    assert finish(plan, store).rows() == rows
    (note,) = store.notes
    assert says(note, "recorded twice with different fvcore", "the earlier line is used")


@pytest.mark.parametrize("name", [name for name, card in all_cards().items() if card.network])
def test_every_card_can_be_planned_and_its_settings_recorded(name: str) -> None:
    arguments = all_cards()[name].arguments
    dynamic = name.startswith("e4net") or "e4r18" in name
    plan = make_plan([name], **({"reductions": [1], "slices": [1], "kernels": [3]} if dynamic else {}))
    for setting in plan:
        record = Record(card=setting.model, arguments=setting.arguments, counts={}, counters={})
        assert json.loads(record.to_line())["card"] == setting.model
        assert setting.group.alias in ("z2", "p4", "p4m", "C8", "D8", "D1", "C2", "D2") or "group" in arguments
    assert len(plan) == (2 if dynamic else 1)


def test_a_counter_that_failed_is_tried_again(
    measured_anew: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any) -> Any:
        raise MemoryError("not now")

    plan = make_plan(reductions=[1], slices=[1], kernels=[3], widths=[2])
    store = RecordStore(tmp_path / "records.jsonl")
    with monkeypatch.context() as patch:
        patch.setitem(REGISTRY, "thop", replace(REGISTRY["thop"], count=out_of_memory))
        first = finish(plan, store)
    assert [outcome.record.counts["failures"] for outcome in first.outcomes] == [{"thop": "MemoryError: not now"}] * 2
    again = finish(plan, store)
    assert len(measured_anew) == 4
    assert [outcome.record.counts["failures"] for outcome in again.outcomes] == [{}, {}]
    assert all(row["thop"] for row in again.rows())
    third = finish(plan, store)
    assert len(measured_anew) == 4
    assert all(outcome.resumed for outcome in third.outcomes)
    assert third.rows() == again.rows()


@pytest.mark.parametrize("failure", ["missing", "too large"])
def test_a_failure_that_stays_is_not_tried_again(
    measured_anew: list[str], failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if failure == "missing":
        versions = {**sweeps.counter_versions(), "thop": "missing"}
        monkeypatch.setattr(sweeps, "counter_versions", lambda _: versions)

        def absent(*_: Any) -> Any:
            raise ModuleNotFoundError("No module named 'thop'")

        monkeypatch.setitem(REGISTRY, "thop", replace(REGISTRY["thop"], count=absent))
    else:
        monkeypatch.setattr("e4profile.witnesses.counts.stock._REAL_RUN_MACS", 1)
    plan = make_plan(reductions=[1], slices=[1], kernels=[3], widths=[2])
    store = RecordStore(tmp_path / "records.jsonl")
    assert all(outcome.record.counts["failures"] for outcome in finish(plan, store).outcomes)
    assert all(outcome.resumed for outcome in finish(plan, store).outcomes)
    assert len(measured_anew) == 2


def test_other_counters_are_asked_and_the_exact_ones_stay(tmp_path: Path) -> None:
    plan, store = make_plan(**{**SMALL, "reductions": [1], "slices": [1]}), RecordStore(tmp_path / "records.jsonl")
    running = Sweep(plan, store, ["torch"])
    list(running.run())
    baseline, row = running.rows()
    assert tuple(row) == columns_of(["torch"])
    assert row["torch"] > 0
    assert row["macs_measured"] == row["macs_formula"]
    assert set(store.load()[0].counters) == {"closed-form", "dispatch", "torch"}
    # another choice of counters is another measurement, and the same one is read back
    default = finish(plan, store)
    assert [one.resumed for one in default.outcomes] == [False, False]
    again = Sweep(plan, store, ["torch", "dispatch"])
    assert [one.resumed for one in again.run()] == [True, True]
    assert again.rows() == [baseline, row]
    assert {one["counter"] for one in counter_rows(studies(running.rows_for_figures())[0])} == {"torch"}
    with pytest.raises(UnknownNameError, match="unknown counter 'trch'; did you mean torch"):
        Sweep(plan, None, ["trch"])
