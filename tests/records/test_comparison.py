from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from program import says

from e4profile.errors import SettingError
from e4profile.records.baseline import Baseline, LayerCosts, ModelCosts, write_baseline
from e4profile.records.comparison import RESAMPLES, _resampled_medians, compare_files, compare_independent
from e4profile.records.files import Key
from e4profile.records.store import Record, RecordStore
from e4profile.records.times import to_record
from e4profile.witnesses.timing.samples import Samples, TimeRecord


def spread(middle: float, count: int = 101, width: float = 0.01) -> list[float]:
    """Samples around a median, in an order that is not sorted."""
    samples = [middle * (1 + width * (2 * i / (count - 1) - 1)) for i in range(count)]
    return samples[1::2] + samples[::2]


def test_verdicts_on_independent_samples() -> None:
    base = spread(1.0)
    assert compare_independent(spread(1.2), base).verdict == "slower"
    assert compare_independent(spread(0.8), base).verdict == "faster"
    assert (
        compare_independent(spread(1.04), base).verdict
        == compare_independent(base, spread(1.04)).verdict
        == "ambiguous"
    )
    assert compare_independent(spread(1.2, width=0.9), spread(1.0, width=0.9)).verdict == "ambiguous"


def test_the_ratio_and_its_interval() -> None:
    found = compare_independent(spread(1.2), spread(1.0))
    assert math.isclose(found.ratio, 1.2, rel_tol=1e-12)
    assert 1.19 < found.low < found.ratio < found.high < 1.21
    assert found == compare_independent(spread(1.2), spread(1.0))


@pytest.mark.parametrize("count", [3, 4, 5])
def test_medians_are_those_of_every_possible_resample(count: int) -> None:
    samples = [float(2**i) for i in range(count)]
    every = Counter(median(drawn) for drawn in product(samples, repeat=count))
    found = Counter(_resampled_medians(samples, np.random.default_rng(1)).tolist())
    assert set(found) <= set(every)
    for value, times in every.items():
        share = times / count**count
        four_deviations = 4 * math.sqrt(share * (1 - share) / RESAMPLES)
        assert abs(found[value] / RESAMPLES - share) <= four_deviations


def test_too_few_samples_give_no_interval() -> None:
    found = compare_independent(spread(2.0, 7), spread(1.0, 101))
    assert (found.low, found.high, found.verdict) == (0.0, math.inf, "ambiguous")
    assert compare_independent(spread(2.0, 8), spread(1.0, 8)).verdict == "slower"


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([1.0], []), ([0.0], [1.0])])
def test_samples_that_cannot_be_compared_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(SettingError):
        compare_independent(first, second)


def sweep_record(macs: int = 100, reduction: int = 1, **counts: Any) -> Record:
    return Record(
        card="e4net",
        arguments={"network": "rot_mnist", "input": "1x28x28", "group": "p4", "width": 16, "reduction": reduction},
        counts={"macs_measured": macs, "agrees": True, "thop": None, "terms": {"encoder": macs - 1}, **counts},
        counters={"dispatch": "1"},
        environment={"torch": "2"},
    )  # fmt: skip


def timing(seconds: Sequence[float], name: str = "e4net", pass_: str = "forward", **environment: Any) -> TimeRecord:
    samples = Samples(tuple(seconds), 0, 0.1, 3, True, "noise target", "enough")
    where = {"torch": "2.13", "cpu": "one", **environment}
    return TimeRecord(
        name, pass_, "eval", "", "cpu", "float32", (1, 1, 28, 28), False, False, 1, "cpu", samples, where, {"width": 16}
    )  # fmt: skip


def records(file: Path, *content: Record | TimeRecord) -> Path:
    for one in content:
        RecordStore(file).append(to_record(one) if isinstance(one, TimeRecord) else one)
    return file


def rows(file: Path, *content: dict[str, Any]) -> Path:
    file.write_text(json.dumps(content))
    return file


def test_equal_records_hold_and_a_single_count_does_not(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", sweep_record(), sweep_record(70, reduction=2))
    after = records(tmp_path / "b.jsonl", sweep_record(70, reduction=2), sweep_record())
    found = compare_files(before, after)
    assert found.holds
    assert len(found.counts) == 2 * 4
    moved = records(tmp_path / "c.jsonl", sweep_record(2**70 + 1), sweep_record(70, reduction=2))
    huge = records(tmp_path / "d.jsonl", sweep_record(2**70), sweep_record(70, reduction=2))
    found = compare_files(huge, moved)
    assert not found.holds
    assert [(one.quantity, one.before, one.after, one.verdict) for one in found.different] == [
        ("macs_measured", 2**70, 2**70 + 1, "differs"),
        ("terms: encoder", 2**70 - 1, 2**70, "differs"),
    ]
    assert found.different[0].key.model.startswith("e4net group=p4 width=16 reduction=1 ")


def test_a_count_on_one_side_only_is_not_equal(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", sweep_record(), sweep_record(70, reduction=2))
    after = records(tmp_path / "b.jsonl", sweep_record(thop=7))
    found = compare_files(before, after)
    verdicts = {(one.key.model.partition("reduction=")[2][0], one.quantity): one.verdict for one in found.different}
    assert verdicts == {
        ("1", "thop"): "only after",
        ("2", "macs_measured"): "only before",
        ("2", "agrees"): "only before",
        ("2", "terms: encoder"): "only before",
    }
    assert not found.holds


def test_a_flag_is_not_a_number(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", sweep_record(agrees=True))
    after = records(tmp_path / "b.jsonl", sweep_record(agrees=1))
    assert [one.quantity for one in compare_files(before, after).different] == ["agrees"]


def test_later_records_replace_earlier_ones(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", sweep_record(1), sweep_record(100))
    found = compare_files(before, records(tmp_path / "b.jsonl", sweep_record(100)))
    assert found.holds
    assert len(found.notes) == 1
    assert says(found.notes[0], "a.jsonl", "1 records", "replaced by later ones")


def test_records_with_a_byte_order_mark_are_all_read(tmp_path: Path) -> None:
    plain = records(tmp_path / "a.jsonl", sweep_record(), sweep_record(70, reduction=2))
    marked = tmp_path / "b.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    found = compare_files(plain, marked)
    assert found.holds
    assert found.notes == ()
    assert len(found.counts) == 2 * 4


def test_layers_of_a_count_are_compared_by_path(tmp_path: Path) -> None:
    layers = [
        {"agrees": True, "path": p, "layer": "Conv2d", "params": n, "dispatch": 10 * n} for p, n in (("a", 1), ("b", 2))
    ]
    before = rows(tmp_path / "a.json", *layers)
    after = rows(tmp_path / "b.json", layers[0], {**layers[1], "dispatch": 21})
    assert compare_files(before, before).holds
    different = compare_files(before, after).different
    assert [(one.key, one.quantity, one.before, one.after) for one in different] == [(Key("", "b"), "dispatch", 20, 21)]


def test_a_sweep_table_is_compared_with_its_records(tmp_path: Path) -> None:
    table = rows(
        tmp_path / "a.json",
        {"model": "e4net", "group": "p4", "width": 16, "kernel": None, "reduction": 1, "slices": None,
         "macs_measured": 100, "agrees": True, "thop": None, "macs_ratio": 0.5},
    )  # fmt: skip
    stored = records(tmp_path / "b.jsonl", sweep_record())
    found = compare_files(table, stored)
    assert found.holds
    assert {one.quantity for one in found.counts} == {"macs_measured", "agrees", "thop"}
    assert found.notes == ("not compared, because they are not counts: macs_ratio",)
    assert not compare_files(records(tmp_path / "c.jsonl", sweep_record(99)), table).holds


def test_baselines_are_compared_per_layer(tmp_path: Path) -> None:
    files = []
    for name, macs in (("a.json", 5), ("b.json", 6)):
        costs = {"params": 1, "macs": macs}
        model = ModelCosts("net.py:build", "1x3x8x8", {}, costs, {"conv": LayerCosts("Conv2d", costs)})
        files.append(tmp_path / name)
        write_baseline(files[-1], Baseline("2.13.0", {"net": model}))
    different = compare_files(*files).different
    assert [(one.key, one.quantity) for one in different] == [(Key("net"), "macs"), (Key("net", "conv"), "macs")]


def test_times_get_a_verdict_about_the_second_file(tmp_path: Path) -> None:
    def stored(name: str, forward: float, backward: float) -> Path:
        return records(tmp_path / name, timing(spread(forward)), timing(spread(backward), pass_="backward"))

    quick, slow = stored("a.jsonl", 1.0, 1.0), stored("b.jsonl", 1.5, 1.0)
    found = compare_files(quick, slow)
    assert [one.verdict for one in found.times] == ["slower", "ambiguous"]
    assert found.times[0].estimate is not None
    assert math.isclose(found.times[0].estimate.ratio, 1.5, rel_tol=1e-12)
    assert not found.holds
    back = compare_files(slow, quick)
    assert [one.verdict for one in back.times] == ["faster", "ambiguous"]
    assert back.holds


@pytest.mark.parametrize("cause", ["interquartile range", "other programs"])
def test_a_noisy_timing_decides_nothing(tmp_path: Path, cause: str) -> None:
    quiet, noisy = timing(spread(1.0)), timing(spread(2.0, width=0.2))
    if cause == "other programs":
        # an even load shows in no sample
        evenly = timing(spread(2.0))
        noisy = replace(evenly, samples=replace(evenly.samples, crowded=True))
    assert noisy.noisy
    assert compare_independent(noisy.samples.seconds, quiet.samples.seconds).verdict == "slower"
    before, after = records(tmp_path / "a.jsonl", quiet), records(tmp_path / "b.jsonl", noisy)
    for one, other in ((before, after), (after, before)):
        found = compare_files(one, other)
        assert [time.verdict for time in found.times] == ["ambiguous"]
        assert "is noisy" in found.times[0].notes[0]
        assert cause in found.times[0].notes[0]
        assert found.holds


@pytest.mark.parametrize(
    ("loops_s", "verdict"),
    [
        ((None, 2e-4), "slower"),
        ((1e-4, 1.02e-4), "slower"),
        ((1e-4, 1.9e-4), "ambiguous"),
        ((1.1e-4, 1e-4), "ambiguous"),
    ],
)
def test_a_processor_at_another_speed_decides_nothing(
    tmp_path: Path, loops_s: tuple[float | None, float], verdict: str
) -> None:
    both = [
        replace(one, samples=replace(one.samples, loop_s=loop_s))
        for one, loop_s in zip((timing(spread(1.0)), timing(spread(2.0))), loops_s, strict=True)
    ]
    found = compare_files(*(records(tmp_path / f"{n}.jsonl", one) for n, one in enumerate(both)))
    assert [time.verdict for time in found.times] == [verdict]
    assert any("another speed" in note for note in found.times[0].notes) is (verdict == "ambiguous")


def test_a_timing_on_one_side_only_is_listed_and_holds(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", timing(spread(1.0)), timing(spread(1.0), name="other"))
    after = records(tmp_path / "b.jsonl", timing(spread(1.0)))
    found = compare_files(before, after)
    assert [one.verdict for one in found.times] == ["ambiguous", "only before"]
    assert found.holds


def test_mixed_environments_are_refused_or_labelled(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", timing(spread(1.0)))
    after = records(tmp_path / "b.jsonl", timing(spread(1.5), cpu="another"))
    with pytest.raises(SettingError, match=r"cpu: 'one' against 'another'; .*--allow-mixed"):
        compare_files(before, after)
    third = records(tmp_path / "d.jsonl", timing(spread(1.0)), timing(spread(1.0), name="other", cpu="another"))
    with pytest.raises(SettingError, match="cpu: 'one' against 'another'"):
        compare_files(before, third)
    found = compare_files(before, after, allow_mixed=True)
    assert [(one.environments, one.verdict) for one in found.times] == [(("A", "B"), "slower")]
    same = records(tmp_path / "c.jsonl", timing(spread(1.5), e4profile="another"))
    assert compare_files(before, same).times[0].environments == ("", "")


def test_counts_of_different_environments_are_comparable(tmp_path: Path) -> None:
    from dataclasses import replace

    before = records(tmp_path / "a.jsonl", sweep_record())
    after = records(tmp_path / "b.jsonl", replace(sweep_record(), environment={"torch": "3"}))
    found = compare_files(before, after)
    assert found.holds
    assert len(found.notes) == 1
    assert says(found.notes[0], "different environments", "torch: '2' against '3'")
    assert compare_files(before, before).notes == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty: nothing to compare"),
        ("hello", r"line 1 is skipped: it is not JSON \(Expecting"),
        ('{"schema": 1, "ki', "line 1 is skipped: it was cut short"),
        ('{\n  "schema": 1,\n  "layers": [\n', "1 is skipped.* 2 more lines .*; as one JSON object it is cut short"),
        ("3", "it is not a JSON object"),
        ('[{"params": 1}]', "row 0 names neither a model nor a layer"),
        ('[{"model": null, "path": null, "params": 1}]', "row 0 names neither a model nor a layer"),
        ("no json\n", "nothing to compare.*it is not JSON"),
        ("[3]", "row 0 is not an object"),
        ("[", "not JSON"),
        ("[]", "nothing to compare"),
        ('[{"network": "a", "median_s": 1.0}]', "time --out FILE"),
        ('[{"path": "a", "params": 1}, {"path": "a", "params": 2}]', "two rows"),
        ('{"models": {}, "schema": 9}', "schema 9"),
    ],
)
def test_a_file_that_holds_nothing_says_why(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    good = records(tmp_path / "b.jsonl", sweep_record())
    with pytest.raises(SettingError, match=reason):
        compare_files(file, good)
    with pytest.raises(SettingError, match=r"none.json: cannot be read"):
        compare_files(good, tmp_path / "none.json")


def test_files_without_a_common_setting_are_refused(tmp_path: Path) -> None:
    before = records(tmp_path / "a.jsonl", sweep_record())
    after = records(tmp_path / "b.jsonl", timing(spread(1.0)))
    with pytest.raises(SettingError, match=r"a\.jsonl holds counts and .*b\.jsonl holds times"):
        compare_files(before, after)
