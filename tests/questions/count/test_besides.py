"""Counts with memory and time beside them: one row per network, the figures of the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Run, says

from e4profile.questions.memory.rows import forward_row, memory_row
from e4profile.subjects.subject import resolve
from e4profile.witnesses.timing import measure
from e4profile.witnesses.timing.clock import Reading, Work


class Steady:
    """Takes the times of a list, over and over."""

    name = "steady"

    def __init__(self) -> None:
        self.count = 0

    def read(self, work: Work) -> Reading:
        work.call(work.prepare())
        self.count += 1
        return Reading(0.002 + 0.001 * (self.count % 3 - 1) / 10)


def test_one_row_has_what_the_other_commands_say(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "clock_for", lambda _: Steady())
    asked = ("count", "Ours=z2cnn(width=4)", "--batch-size", "2", "--with", "memory,time", "--counter", "dispatch")
    found = run(*asked, "--format", "json")
    assert found.code == 0
    (document,) = json.loads(found.out)
    named = resolve("z2cnn(width=4)", batch_size=2)
    of_memory = memory_row(named, 2, "sgd", "float32", "auto", []) | forward_row(named, 2, "float32", [])
    assert document["memory"] == {key: of_memory[key] for key in document["memory"]}
    assert document["time"]["median_s"] == pytest.approx(0.002)
    assert document["time"]["iqr_s"] == pytest.approx(0.0002)
    header, row = run(*asked, "--format", "csv").out.splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert cells["model"] == "Ours"
    assert int(cells["params"]) == document["totals"]["params"]
    assert int(cells["forward_peak_bytes"]) == document["memory"]["forward_peak_bytes"]
    assert float(cells["median_s"]) == document["time"]["median_s"]


def test_a_network_that_cannot_train_on_one_image_keeps_its_other_figures(run: Run) -> None:
    found = run("count", "z2cnn", "p4cnn", "--with", "memory", "--counter", "dispatch", "--format", "json")
    rows = json.loads(found.out)
    missing = [row for row in rows if row["memory"]["peak_bytes"] is None]
    assert all(any("no figure of a training step" in text for text in row["notes"]) for row in missing)
    assert all(row["memory"]["forward_peak_bytes"] for row in rows)


@pytest.mark.parametrize(
    ("given", "words"),
    [("predicted", ("--with predicted", "run e4profile calibrate")), ("energy", ("unknown column 'energy'",))],
)
def test_what_there_is_not_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = run("count", "z2cnn", "--with", given)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert says(found.err, *words)
