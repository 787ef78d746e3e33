"""``calibrate`` and ``time --predicted``: what they print, keep and refuse. No duration is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Run, says

PREDICTED = ["--predicted", "--calibration", "quick.json"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a calibration by five tiny networks."""
    from e4profile.records.calibrations import write_calibration
    from e4profile.witnesses.timing.calibration import calibrate
    from e4profile.witnesses.timing.references import QUICK

    file = tmp_path_factory.mktemp("calibration") / "quick.json"
    write_calibration(file, calibrate(references=QUICK, max_run_time_s=0.01))
    return file.read_text()


def test_a_device_is_calibrated_and_predicts(run: Run) -> None:
    refused = run("time", "p4-cnn", "--predicted")
    assert refused.code == 2
    assert says(refused.err, "is not calibrated in float32 on 1 thread", "run e4profile calibrate")
    made = run("calibrate", "--quick", "--format", "json")
    assert made.code == 0, made.err
    rows = json.loads(made.out)
    assert {"operator", "macs_per_s", "bytes_per_s", "per_call_s", "step_factor"} == set(rows[0])
    assert says(made.err, "wrote", "calibrations")
    assert run("time", "p4-cnn", "--predicted").code == 0


def test_terms_add_up_and_errors_are_printed(run: Run, quick: str) -> None:
    Path("quick.json").write_text(quick)
    found = run("time", "p4-cnn", "--set", "width=3", *PREDICTED, "--batch-size", "1,4", "--format", "json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)
    for batch in (1, 4):
        *terms, total = [row for row in rows if row["batch_size"] == batch]
        assert [row["term"] for row in terms] == [
            "filter expansion",
            "convolution",
            "norm",
            "activation",
            "pooling",
            "other",
        ]
        for key in ("macs", "predicted_s", "time_percent"):
            assert sum(row[key] for row in terms) == pytest.approx(total[key])
        assert total["term"] == "total"
        assert total["error_percent"] > 0
    assert says(found.err, "Predicted for")
    assert says(found.err, "Error for topologies that were not timed")


def test_a_training_step_is_predicted_by_a_calibration_that_timed_one(run: Run, quick: str) -> None:
    from dataclasses import replace

    from e4profile.records.calibrations import read_calibration, write_calibration

    Path("quick.json").write_text(quick)
    step = ["--set", "width=3", *PREDICTED, "--pass", "step"]
    found = run("time", "p4-cnn", *step, "--format", "json")
    assert found.code == 0, found.err
    known = read_calibration(Path("quick.json"))
    assert known.step_topology_error is not None
    forward = json.loads(run("time", "p4-cnn", "--set", "width=3", *PREDICTED, "--format", "json").out)
    *terms, total = json.loads(found.out)
    assert sum(row["predicted_s"] for row in terms) == pytest.approx(total["predicted_s"])
    factors = [rate.step_factor for rate in known.rates.values() if rate.step_factor is not None]
    assert min(factors) <= total["predicted_s"] / forward[-1]["predicted_s"] <= max(factors)
    assert total["error_percent"] == known.step_topology_error.mean_percent
    assert says(found.err, "Error of a training step for other topologies")
    limited = ["sweep", "p4-cnn", "--vary", "width=3", "--max", "step-time=1h", *PREDICTED[1:], "--format", "json"]
    (row,) = json.loads(run(*limited).out)
    assert row["step_time_s"] == pytest.approx(total["predicted_s"])
    rates = {kind: replace(rate, step_factor=None) for kind, rate in known.rates.items()}
    old = replace(known, rates=rates, step_setting_error=None, step_topology_error=None)
    write_calibration(Path("quick.json"), old)
    for asked in (["time", "p4-cnn", *step], limited):
        assert says(run(*asked).err, "covers forward passes only", "e4profile calibrate")


def test_what_cannot_be_predicted_is_not_stated(run: Run, quick: str, net: str) -> None:
    Path("quick.json").write_text(quick)
    own = f"{net}:Net"
    found = run("time", "p4-cnn", "p4-sa", own, "--input", "1x1x28x28", *PREDICTED, "--format", "json")
    rows = json.loads(found.out)
    totals = {row["network"]: row["predicted_s"] for row in rows if row["term"] == "total"}
    assert totals["p4-sa"] is None
    assert totals[own] is None
    assert says(found.err, "p4-sa: not stated: the calibration has no rate for: ")
    assert says(found.err, own, "not stated", "has no closed form")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--predicted", "--fits", "3ms"], ["omit --fits"]),
        (["--predicted", "--breakdown"], ["omit --breakdown"]),
        (["--predicted", "--out", "times.jsonl"], ["omit --out"]),
        (["--predicted", "--pass", "forward,step"], ["not to --pass forward, --mode eval and --pass step"]),
        (["--predicted", "--mode", "train"], ["not to --pass forward, --mode train"]),
        (["--calibration", "quick.json"], ["give --predicted too"]),
        (["--predicted", "--calibration", "none.json"], ["none.json: cannot be read"]),
        ([*PREDICTED, "--dtype", "bfloat16"], ["give --dtype float32"]),
    ],
)
def test_refusals(run: Run, quick: str, options: list[str], words: list[str]) -> None:
    Path("quick.json").write_text(quick)
    found = run("time", "p4-cnn", *options)
    assert found.code == 2
    assert found.err.count("\n") == 1
    assert says(found.err, *words)


def test_a_calibration_of_another_machine_is_named(run: Run, quick: str) -> None:
    from e4profile.records.calibrations import _checksum

    data = json.loads(quick)
    data["calibration"]["environment"]["cpu"] = data["calibration"]["environment"]["device"] = "Abacus 3000"
    data["calibration"]["largest_macs"] = 10
    data["checksum"] = _checksum(data["calibration"])
    Path("quick.json").write_text(json.dumps(data))
    found = run("time", "p4-cnn", *PREDICTED, "--format", "json")
    assert says(found.err, "Predicted for Abacus 3000", "by the calibration of another environment (Abacus 3000; cpu: ")
    assert says(found.err, "p4-cnn: an extrapolation")


def test_places_and_times_are_checked_before_anything_runs(run: Run) -> None:
    for options, words in (
        (["--out", "."], "it is a folder"),
        (["--max-run-time-s", "0"], "must be positive"),
        (["--device", "tpu"], "must be 'cpu' or 'cuda'"),
    ):
        found = run("calibrate", *options)
        assert found.code == 2
        assert says(found.err, words)
