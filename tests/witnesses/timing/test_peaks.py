from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch
from stub_clocks import RunningClock, ScriptedClock

from e4profile.errors import SettingError
from e4profile.witnesses.timing.peaks import cache_folder, cached_peaks, measure_peaks, read_json, write_json
from e4profile.witnesses.timing.samples import StopRule

TINY = {"product_size": 4, "copy_bytes": 64, "rule": StopRule(min_run_time_s=0.0)}


def test_peaks_are_the_fastest_product_and_the_fastest_copy():
    product = chain(repeat(0.5, 10), [0.25], repeat(0.5, 6))
    copy = chain(repeat(0.1, 9), [0.05], repeat(0.1, 7))
    clock = ScriptedClock(chain(product, copy))
    peaks = measure_peaks("cpu", "float64", clock=clock, **TINY)
    assert clock.readings == 34
    assert peaks.macs_per_s == 4**3 / 0.25
    assert peaks.bytes_per_s == 2 * 64 / 0.05
    assert peaks.ridge == 256 / 2560
    assert (peaks.device, peaks.dtype, peaks.threads) == ("cpu", "float64", 1)


def test_a_copy_is_at_least_as_large_as_asked():
    peaks = measure_peaks("cpu", "float32", clock=RunningClock(1.0), **{**TINY, "copy_bytes": 63})
    assert peaks.bytes_per_s == 2 * 64


@pytest.mark.parametrize(("name", "value"), [("product_size", 0), ("copy_bytes", -1)])
def test_sizes_must_be_positive(name, value):
    with pytest.raises(SettingError, match=rf"{name} \(={value}\)"):
        measure_peaks("cpu", clock=RunningClock(), **{**TINY, name: value})


def test_peaks_are_measured_once_and_then_read(tmp_path):
    first = cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY)
    again = cached_peaks(folder=tmp_path, clock=RunningClock(0.1), **TINY)
    assert again == first
    assert first.notes == ()
    refreshed = cached_peaks(folder=tmp_path, refresh=True, clock=RunningClock(0.1), **TINY)
    assert refreshed.macs_per_s == pytest.approx(5 * first.macs_per_s)
    assert cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY) == refreshed


def test_every_dtype_and_thread_count_has_its_own_peaks(tmp_path):
    for dtype, threads in (("float32", 1), ("float64", 1), ("float32", 2)):
        cached_peaks(dtype=dtype, threads=threads, folder=tmp_path, clock=RunningClock(), **TINY)
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_peaks_of_another_environment_are_not_used(tmp_path, monkeypatch):
    first = cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY)
    here = dict(first.environment)
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.environment", lambda: {**here, "cpu": "another"})
    assert cached_peaks(folder=tmp_path, clock=RunningClock(0.1), **TINY).macs_per_s > first.macs_per_s
    monkeypatch.setattr("e4profile.witnesses.timing.peaks.environment", lambda: {**here, "e4profile": "9"})
    assert cached_peaks(folder=tmp_path, clock=RunningClock(0.1), **TINY).macs_per_s == first.macs_per_s


@pytest.mark.parametrize("value", [None, "fast", 0.0, -1.0])
def test_a_cached_peak_that_cannot_be_is_measured_anew(tmp_path, value):
    first = cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY)
    (file,) = (tmp_path / "peaks").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "bytes_per_s": value}))
    again = cached_peaks(folder=tmp_path, clock=RunningClock(0.25), **TINY)
    assert again.bytes_per_s > first.bytes_per_s


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 0}'])
def test_a_spoiled_cache_is_measured_anew_and_mended(tmp_path, content):
    first = cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(content)
    again = cached_peaks(folder=tmp_path, clock=RunningClock(0.5), **TINY)
    assert replace(again, notes=()) == first
    assert json.loads(file.read_text())["macs_per_s"] == first.macs_per_s


def test_a_folder_that_cannot_be_written_is_a_note_and_no_error(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    peaks = cached_peaks(folder=in_the_way, clock=RunningClock(0.5), **TINY)
    assert peaks.macs_per_s == 128.0
    assert any("not cached" in note for note in peaks.notes)


def test_the_cache_folder_follows_the_platform():
    home = Path.home()
    assert cache_folder({"XDG_CACHE_HOME": "/somewhere"}, "linux") == Path("/somewhere/e4profile")
    assert cache_folder({"XDG_CACHE_HOME": "relative"}, "linux") == home / ".cache" / "e4profile"
    assert cache_folder({}, "linux") == home / ".cache" / "e4profile"
    assert cache_folder({}, "darwin") == home / "Library" / "Caches" / "e4profile"
    assert cache_folder({"LOCALAPPDATA": "/local"}, "win32") == Path("/local/e4profile/Cache")


def test_a_file_is_written_whole_and_read_back(tmp_path):
    path = tmp_path / "deep" / "file.json"
    assert read_json(path) == (None, "")
    assert write_json(path, {"a": 1}) == ""
    assert read_json(path) == ({"a": 1}, "")
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    cached_peaks(threads=before + 1, folder=tmp_path, clock=RunningClock(), **TINY)
    assert torch.get_num_threads() == before
