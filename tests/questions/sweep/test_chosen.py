"""``e4profile sweep`` with limits, fronts and many settings: what is left of a cloud of settings."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e4profile.layers.operators import OPERATORS
from e4profile.questions.sweep import cloud as clouds
from e4profile.questions.sweep.cloud import Cloud, cloud_of, front, prove
from e4profile.questions.sweep.quantities import QUANTITIES, How, Quantity, Reading, read_limits
from e4profile.records.calibrations import write_calibration
from e4profile.subjects.subject import resolve
from e4profile.subjects.written import parse_varied
from e4profile.witnesses.environment import environment
from e4profile.witnesses.many_settings import EXACT
from e4profile.witnesses.timing.calibration import Calibration, FitError
from e4profile.witnesses.timing.rates import Rate
from e4profile.witnesses.variants import VariantCounter
from tests.program import Run, says

FORMULAS = [name for name, one in QUANTITIES.items() if one.formula in EXACT]


def cloud_over(card: str, *vary: str, names: tuple[str, ...] = ("params", "macs")) -> Cloud:
    return cloud_of([resolve(card)], [parse_varied(text) for text in vary], [QUANTITIES[one] for one in names], How())


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "SAMPLE", 2)


@pytest.fixture(autouse=True)
def no_calibration(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_limits_keep_the_settings_whose_built_networks_meet_them(run: Run) -> None:
    code, out, err = run(
        "sweep", "z2cnn", "e4net-printed", "--vary", "width=4..16..4", "--max", "params=10k", "-f", "json"
    )
    assert code == 0
    counts = {
        (name, width): VariantCounter()(resolve(name, (), {"width": width}))
        for name, width in product(("z2cnn", "e4net-printed"), (4, 8, 12, 16))
    }
    kept = {key: (one.params, one.total()) for key, one in counts.items() if one.params <= 10_000}
    assert 0 < len(kept) < len(counts)
    rows = json.loads(out)
    assert {(row["network"], row["setting"]["width"]): (row["params"], row["macs"]) for row in rows} == kept
    assert "2 of 8 settings, drawn at random (seed 0), were built and counted" in err
    assert not list(Path().iterdir())


def test_the_shorthands_are_the_same_axes_and_out_has_the_front(run: Run) -> None:
    short = run("sweep", "e4net", "-r", "1,2", "-s", "2", "-k", "3,4", "--width", "4..8..4", "--group", "z2,p4",
                "--front", "params,macs", "-f", "json", "--out", "there")  # fmt: skip
    axes = ("group=z2,p4", "reduction=1,2", "slices=2", "kernel=3,4", "width=4..8..4")
    vary = [word for axis in axes for word in ("--vary", axis)]
    long = run("sweep", "e4net", *vary, "--front", "params,macs", "-f", "json")
    assert (short.code, short.out) == (0, long.out)
    assert {row["setting"]["kernel"] for row in json.loads(short.out)} == {3}
    assert "8 of 16 settings cannot be built, for example" in short.err
    assert "kernel (=4) must be odd" in short.err
    written = {path.name for path in Path("there").iterdir()}
    assert written == {
        "table.md",
        "table.csv",
        "records.jsonl",
        *(f"front-params-macs.{ending}" for ending in ("svg", "png", "csv")),
    }


def test_what_runs_is_stored_and_read_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef build(width=4):\n    return nn.Sequential(nn.LazyConv2d(width, 3), nn.Flatten())\n",
        encoding="utf-8",
    )
    limits = ["--batch-size", "2", "--max", "peak=1GB,forward-peak=1GB,memory=1GB", "-f", "json", "--out", "there"]
    card = ["sweep", "z2cnn", "--vary", "width=2,3", *limits]
    own = ["sweep", "net.py:build", "--input", "1x3x8x8", "--vary", "width=2,3", *limits]
    first = [run(*one) for one in (card, own)]
    assert [one.code for one in first] == [0, 0]
    for asks in ("step_bytes", "peak_bytes", "forward_peak_bytes"):
        monkeypatch.setattr(f"e4profile.witnesses.variants.{asks}", None)
    monkeypatch.setattr(clouds, "measure", None)
    again = [run(*one) for one in (card, own)]
    assert [(one.code, one.out) for one in again] == [(0, one.out) for one in first]
    assert all("of 8 networks that were asked, 8 were read back from there/records.jsonl" in one.err for one in again)
    with pytest.raises(TypeError):
        run(*card, "--batch-size", "3")


def test_more_settings_than_are_built_come_by_closed_form_with_a_sample(run: Run) -> None:
    code, out, err = run("sweep", "z2cnn", "--vary", "width=1..2000", "--sort", "saved", "-f", "csv")
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [str(width) for width in range(1, 21)]
    assert "2 of 2,000 settings, drawn at random (seed 0), were built and counted" in err
    assert "2,000 of 2,000 settings can be built, 20 shown; --top 0 shows all" in err


def test_a_closed_form_that_differs_from_the_sample_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = clouds.cloud_of

    def wrong(*arguments: Any) -> Cloud:
        found = honest(*arguments)
        found.found[0].quantities["macs"][1] += 1
        return found

    monkeypatch.setattr(clouds, "cloud_of", wrong)
    code, out, _ = run("sweep", "z2cnn", "--vary", "width=2,4", "--sort", "macs")
    assert code == 1
    assert "and 1 differ: width=4: closed form" in " ".join(out.split())


def test_a_limit_that_nothing_meets_shows_the_nearest(run: Run) -> None:
    code, out, err = run("sweep", "z2cnn", "--vary", "width=2..20..2", "--max", "params=10,macs=1k", "-f", "json")
    assert code == 1
    rows = json.loads(out)
    assert [row["setting"]["width"] for row in rows] == [2, 4, 6, 8, 10]
    assert [row["excess"] for row in rows] == [max(row["params"] / 10, row["macs"] / 1000) for row in rows]
    assert "none of 10 settings has params <= 10 and macs <= 1k" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("z2cnn", "--vary", "width=2", "--max", "parms=1"), "unknown quantity in --max 'parms'; did you mean params"),
        (("z2cnn", "--vary", "width=2", "--max", "params"), "must be QUANTITY=VALUE"),
        (("z2cnn", "--vary", "width=2", "--max", "saved=1ms"), "is a time, not a size"),
        (("z2cnn", "--vary", "width=2", "--max", "params=1k", "--min", "params=2k"), "contradicts --max params=1k"),
        (("z2cnn", "--vary", "width=2", "--max", "params=1,params=2"), "--max params is given twice"),
        (("z2cnn", "--vary", "width=2", "--max", "saved=50"), "--max saved (=50) is a size without its unit"),
        (("z2cnn", "--vary", "width=2", "--front", "params,params"), "--front params,params names one cost twice"),
        (("z2cnn", "--vary", "width=2", "--front", "time,predicted"), "without --time, time is predicted"),
        (("z2cnn", "--vary", "width=1..1000000", "--vary", "classes=1..1000"), "1,000,000,000 settings"),
        (("z2cnn", "--vary", "width=2..4", "--max", "time=1ms"), "is not calibrated in float32 on 1 thread"),
        (("z2cnn", "--vary", "width=1..1001", "--max", "memory=1MB"), "at most 1,000 are built"),
        (("z2cnn", "--vary", "width=1..1001", "--counter", "fvcore"), "--counter fvcore counts setting by setting"),
        (("z2cnn", "--vary", "width=2", "--sort", "error"), "errors are published for networks"),
        (("z2cnn", "--front", "error,macs", "--vary", "width=2"), "omit --vary"),
        (("z2cnn", "--front", "error,macs", "--max", "time=1s"), "or, with --front error,time, time"),
        (("z2cnn", "--max", "error=5", "--verify", "2"), "errors are published for networks, not for settings"),
        (("z2cnn", "--max", "error=101"), "--max error=101: give a percentage from 0 to 100"),
        (("z2cnn", "--vary", "width=0,-3", "--sort", "macs"), "width (=0) must be a positive integer"),
    ],
)
def test_what_cannot_be_asked_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("sweep", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_published_errors_against_cost_are_those_of_pareto(run: Run) -> None:
    arguments = ("z2cnn", "p4cnn")
    swept = run("sweep", *arguments, "--front", "error,params", "-f", "json")
    assert swept.code == 0
    assert swept.out == run("pareto", *arguments, "--x", "params", "-f", "json").out
    given = ("z2cnn", "p4cnn", "--error", "z2cnn=9", "--error", "p4cnn=4")
    swept = run("sweep", *given, "--front", "error,macs", "-f", "json")
    assert (swept.code, swept.out) == (0, run("pareto", *given, "-f", "json").out)


@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_published_errors_keep_to_limits(run: Run, quantity: str) -> None:
    front = ("sweep", "--table", "3", "--front", "error,macs", "-f", "json")
    of_cost = json.loads(run("pareto", "--table", "3", "--x", quantity, "-f", "json").out)
    costs = {row["network"]: row[quantity] for row in of_cost}
    bound = sorted(costs.values())[len(costs) // 2]
    kept = json.loads(run(*front, "--max", f"{quantity}={bound}").out)
    names = {name for row in kept for name in row["network"].split(" = ")}
    assert names == {name for row, cost in costs.items() if cost <= bound for name in row.split(" = ")}
    assert len(names) < sum(len(row.split(" = ")) for row in costs)
    none = run(*front, "--max", f"{quantity}=1")
    assert (none.code, none.out) == (1, "")
    assert says(none.err, f"{quantity} <= 1", "miss")


def test_published_errors_are_limits_and_an_order_too(run: Run) -> None:
    every = json.loads(run("sweep", "--table", "3", "--front", "error,macs", "-f", "json").out)
    errors = sorted((row["published_error"] for row in every), reverse=True)
    most = errors[2]
    found = run("sweep", "--table", "3", "--max", f"error={most}%", "--sort", "-error", "--top", "4", "-f", "json")
    assert found.code == 0
    kept = [one for one in errors if one <= most]
    assert 4 < len(kept) < len(errors)
    assert [row["published_error"] for row in json.loads(found.out)] == kept[:4]
    nothing = run("sweep", "--table", "3", "--max", "error=0.1")
    assert (nothing.code, nothing.out) == (1, "")
    assert f"{len(errors)} of {len(errors)} rows miss error <= 0.1: " in nothing.err
    assert f"(by {errors[-1] / 0.1:.2f} times)" in nothing.err


def test_a_network_without_a_closed_form_is_built_setting_by_setting_and_says_so(run: Run) -> None:
    Path("net.py").write_text(
        "from torch import nn\n\n\ndef build(width=4):\n    assert width != 6, 'not six'\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.LayerNorm(6))\n",
        encoding="utf-8",
    )
    code, out, err = run(
        "sweep", "net.py:build", "--input", "1x3x8x8", "--vary", "width=4..7", "--sort", "macs", "-f", "csv"
    )
    assert code == 0
    lines = [f"{width},{27 * width + 12},{27 * width * 36}" for width in (4, 5, 7)]
    assert out.splitlines() == ["width,params,macs", *lines]
    assert "so each setting is built and counted" in err
    assert "not six" in err
    code, _, err = run("sweep", "net.py:build", "--input", "1x3x8x8", "--vary", "width=1..2000")
    assert code == 2
    assert "each of 2,000 settings has to be built, and at most 1,000 are" in err


class Points(Cloud):
    """Settings with given costs, of which ``time`` was measured."""

    def __init__(self, costs: list[tuple[int, int]], intervals: list[tuple[float, float]]) -> None:
        self.costs = costs
        readings = {at: Reading(sum(one) / 2, one) for at, one in enumerate(intervals)}
        super().__init__([], [], [], asked={"time": readings})

    @property
    def size(self) -> int:
        return len(self.costs)

    def values(self, quantity: Quantity) -> Any:
        place = {"params": 0, "macs": 1}.get(quantity.name)
        return super().values(quantity) if place is None else np.array([one[place] for one in self.costs])

    def stated(self, quantity: Quantity) -> Any:
        return np.ones(self.size, dtype=bool)


POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2)), max_size=12)


@settings(deadline=None)
@given(POINTS)
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int, int, int]]) -> None:
    costs = [(one[0], one[1]) for one in points]
    found = Points(costs, [(one[2], one[2] + one[3]) for one in points])
    exact = front(found, range(len(points)), [QUANTITIES["params"], QUANTITIES["macs"]])
    assert sorted(exact) == [
        at for at, (a, b) in enumerate(costs)
        if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in costs)
    ]  # fmt: skip
    timed = front(found, range(len(points)), [QUANTITIES["time"], QUANTITIES["params"]])
    for at, (params, _, low, more) in enumerate(points):
        beaten = any(
            (below + wide < low or other < params) and not (below > low + more or other > params)
            for other, _, below, wide in points
        )
        assert (at in timed) != beaten


def test_every_quantity_of_the_closed_form_is_stated_of_a_card() -> None:
    found = cloud_over("e4net", "width=4,8", names=tuple(FORMULAS))
    prove(found, How())
    assert found.disagreements == []
    for name in FORMULAS:
        assert found.stated(QUANTITIES[name]).all()
        assert found.value(QUANTITIES[name], 0) < found.value(QUANTITIES[name], 1)  # type: ignore[operator]
    assert [str(limit) for limit in read_limits(["saved=2MiB"], ["params=1"])] == ["saved <= 2MiB", "params >= 1"]


@pytest.fixture
def calibration(run: Run) -> str:
    """A calibration of rates made up, in the folder of the run."""
    rates = {kind: Rate(1e-11 * (at + 1), 1e-10 / (at + 1), 1e-6) for at, kind in enumerate(OPERATORS)}
    error = FitError(12.0, 30.0, 0.9, 9)
    here = environment() | {"threads": 1}
    write_calibration(
        Path("made_up.json"), Calibration("cpu", "float32", 1, "clock", 60, 9, 10**8, rates, error, error, here)
    )
    return "made_up.json"


def test_times_are_predicted_as_for_each_network_alone_and_the_best_can_be_timed(run: Run, calibration: str) -> None:
    predicting = ("--calibration", calibration, "-f", "json")
    code, out, err = run(
        "sweep", "e4net", "p4m-e4r18", "--vary", "width=4,8,16", "-k", "3,5", "--max", "time=1s", "--sort", "time",
        "--verify", "1", *predicting,
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)
    assert [row["predicted_s"] for row in rows] == sorted(row["predicted_s"] for row in rows)
    assert [row["time_s"] is not None for row in rows] == [True, *[False] * 11]
    for row in rows[::4]:
        setting = [word for name, value in row["setting"].items() for word in ("--set", f"{name}={value}")]
        alone = json.loads(run("time", row["network"], *setting, "--predicted", *predicting).out)
        assert alone[-1]["predicted_s"] == pytest.approx(row["predicted_s"], rel=1e-12)
    assert "Error for topologies that were not timed: 12% on average" in err
    assert "The largest network that was timed has 100,000,000 MACs." in err
    assert "nothing was timed" not in err
    assert f"{rows[0]['time_s'] / rows[0]['predicted_s']:.2f} times as long as predicted (1 timed)" in err


def test_match_at_most_finds_the_last_of_a_sweep_below_the_predicted_time(run: Run, calibration: str) -> None:
    predicting = ("--calibration", calibration, "-f", "json")
    swept = run("sweep", "e4net", "--vary", "width=4..80", "--max", "time=10ms", "--sort", "-time", "--top", "2",
                "--counter", "closed-form", *predicting)  # fmt: skip
    found = run("match", "e4net", "--to", "10ms", "--at-most", *predicting)
    assert (swept.code, found.code) == (0, 0), (swept.err, found.err)
    largest, answer = json.loads(swept.out)[0], json.loads(found.out)
    assert 4 < largest["setting"]["width"] < 80
    assert (answer["by"], answer["setting"], answer["value"]) == (
        "predicted", largest["setting"], pytest.approx(largest["predicted_s"])
    )  # fmt: skip
    assert answer["value"] <= 0.01 < answer["above"]["value"]
    assert "no run of the networks is in them" in found.err
    for asked, words in (
        (["--to", "40ms"], "add --at-most, or --by predicted"),
        (["--to", "1us", "--at-most"], "no setting of e4net has at most 1e-06 seconds"),
    ):
        refused = run("match", "e4net", *asked, "--calibration", calibration)
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err
    assert "is not calibrated" in run("match", "e4net", "--to", "1ms", "--at-most").err


def test_a_limit_that_the_timed_setting_misses_is_said_and_the_largest_can_come_first(
    run: Run, calibration: str
) -> None:
    grid = ("sweep", "e4net", "--vary", "width=4,8", "--calibration", calibration, "-f", "json")
    known = json.loads(run(*grid, "--front", "time,macs", "--sort", "-predicted").out)
    largest = json.loads(run(*grid, "--sort", "-macs").out)
    assert [row["setting"]["width"] for row in largest] == [8, 4]
    bound = known[0]["predicted_s"] * 1.001e3
    code, out, err = run(*grid, "--max", f"time={bound:.9f}ms", "--sort", "-macs", "--top", "1", "--verify", "1")
    (row,) = json.loads(out)
    assert code == 0
    assert row["time_s"] > row["predicted_s"], "rates made up are faster than any CPU"
    assert "as timed, 1 of 1 settings miss the limit predicted <=" in err


def test_networks_as_they_are_are_set_against_limits_and_each_other(run: Run) -> None:
    code, out, err = run("sweep", "e4net", "p4-cnn", "--max", "params=50k", "-f", "json")
    assert code == 0, err
    assert [(row["network"], row["params"]) for row in json.loads(out)] == [("e4net", 18_694)]
