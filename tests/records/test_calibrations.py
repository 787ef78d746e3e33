"""Calibrations on disk: whole, checked, and never used for another machine without a word. Nothing is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from e4profile.errors import SettingError
from e4profile.records.calibrations import (
    calibration_for,
    check_writable,
    default_file,
    read_calibration,
    write_calibration,
)
from e4profile.witnesses.environment import environment
from e4profile.witnesses.timing.calibration import Calibration, FitError
from e4profile.witnesses.timing.passes import fixed_threads
from e4profile.witnesses.timing.rates import Rate

ERROR = FitError(12.5, 40.0, 0.97, 60, 1)


@pytest.fixture
def calibration() -> Calibration:
    with fixed_threads(1):
        here = environment()
    rates = {"view": Rate(0.0, 0.0, 1e-6)}
    return Calibration("cpu", "float32", 1, "clock", 60, 9, 10**8, rates, ERROR, replace(ERROR, mean_percent=17), here)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_written_is_read_and_found(calibration: Calibration, tmp_path: Path) -> None:
    write_calibration(default_file("cpu", "float32", 1), calibration)
    assert calibration_for("cpu", "float32", 1) == (calibration, "")
    named = tmp_path / "new" / "mine.json"
    write_calibration(named, calibration)
    assert calibration_for("cpu", "float32", 1, named) == (calibration, "")


def test_a_device_that_was_not_calibrated_is_refused_with_the_remedy(calibration: Calibration) -> None:
    with pytest.raises(
        SettingError, match=r"is not calibrated in bfloat16 on 1 thread: run e4profile calibrate --dtype b"
    ):
        calibration_for("cpu", "bfloat16", 1)
    file = default_file("cpu", "float32", 1)
    write_calibration(file, calibration)
    with pytest.raises(
        SettingError, match=r"there is one of threads 1\): run e4profile calibrate --threads 2, or name"
    ):
        calibration_for("cpu", "float32", 2)
    # another torch has another file, and what is there is named
    elsewhere = replace(calibration, environment={**calibration.environment, "torch": "1.0"})
    write_calibration(file.with_name("other.json"), elsewhere)
    file.unlink()
    with pytest.raises(SettingError, match=r"there is one of torch: '1\.0' against"):
        calibration_for("cpu", "float32", 1)


def test_a_named_one_of_another_machine_says_so(calibration: Calibration, tmp_path: Path) -> None:
    file = tmp_path / "theirs.json"
    write_calibration(file, replace(calibration, device="cuda", threads=4096))
    assert calibration_for("cuda", "float32", 4096, file)[0].device == "cuda"  # which is not here
    write_calibration(
        file, replace(calibration, environment={**calibration.environment, "device": "Abacus", "torch": "1"})
    )
    found, whose = calibration_for("cpu", "float32", 1, file)
    assert found.environment["device"] == "Abacus"
    assert "another environment (Abacus; device: 'Abacus' against" in whose
    for device, dtype, threads, words in (
        ("cuda", "float32", 1, "--device cpu"),
        ("cpu", "bfloat16", 1, "--dtype float32"),
        ("cpu", "float32", 2, "--threads 1"),
    ):
        with pytest.raises(SettingError, match=f"give {words}"):
            calibration_for(device, dtype, threads, file)


def test_damaged_files_are_refused_in_a_line(calibration: Calibration, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    write_calibration(file, calibration)
    whole = file.read_text()
    data = json.loads(whole)
    data["calibration"]["rates"]["view"]["s_per_call"] = -1.0
    for content, words in (
        (whole[:100], "is not JSON"),
        ("[]", "has schema None"),
        (whole.replace('"schema": 1', '"schema": 2'), "has schema 2"),
        (json.dumps(data), "its checksum is not that of its content"),
        (json.dumps({"schema": 1}), "is damaged"),
        ("\0", "calibration.json"),
    ):
        file.write_text(content)
        with pytest.raises(SettingError, match=words) as refused:
            read_calibration(file)
        assert "\n" not in str(refused.value)
    # a checksum that fits does not make a rate of it
    with pytest.raises(ValueError, match="'view' must be finite and not negative"):
        replace(calibration, rates={"view": Rate(0.0, 0.0, float("nan"))})
    from e4profile.records import calibrations

    data["checksum"] = calibrations._checksum(data["calibration"])
    file.write_text(json.dumps(data))
    with pytest.raises(SettingError, match="must be finite and not negative"):
        read_calibration(file)


def test_a_place_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "file.json")
    assert not (tmp_path / "new" / "file.json").exists()
    (tmp_path / "plain").write_text("")
    for place in (tmp_path, tmp_path / "plain" / "file.json"):
        with pytest.raises(SettingError, match="cannot write the calibration"):
            check_writable(place)


def test_committed_calibrations_predict_what_they_promise() -> None:
    files = sorted((Path(__file__).resolve().parents[2] / "reports" / "calibrations").glob("*.json"))
    assert files
    for file in files:
        found = read_calibration(file)
        for error in (found.setting_error, found.topology_error, found.step_setting_error, found.step_topology_error):
            assert error is not None
            assert error.mean_percent <= 20, file
            assert error.rank_correlation >= 0.95, file
