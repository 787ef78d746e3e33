"""The figure of both executions: two costs and two fronts of the same published errors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from program import Run

from e4profile.questions.sweep.figure_executions import default_models, execution_plots, execution_rows
from e4profile.subjects.subject import resolve
from e4profile.witnesses.counts.measure import measure


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return execution_rows([resolve(name) for name in ("r18", "p4-r18", "p4-e4r18", "p4m-r18", "p4m-e4r18-printed")])


def test_each_network_is_built_and_counted_twice(rows: list[dict[str, object]]) -> None:
    for name, label in (("r18", "R18"), ("p4m-r18", "p4m-R18")):
        for execution in ("bank", "irreps"):
            mine = {row["macs"] for row in rows if (row["label"], row["execution"]) == (label, execution)}
            assert mine == {measure(resolve(name).executed(execution), ()).dispatch.macs}
    costs = {
        execution: {row["label"]: row["macs"] for row in rows if row["execution"] == execution}
        for execution in ("bank", "irreps")
    }
    assert costs["bank"].keys() == costs["irreps"].keys()
    assert {label for label, macs in costs["bank"].items() if macs == costs["irreps"][label]} == {"R18"}


def test_each_execution_has_its_front(rows: list[dict[str, object]]) -> None:
    for execution in ("bank", "irreps"):
        mine = [row for row in rows if (row["execution"], row["dataset"]) == (execution, "cifar10")]
        front = {row["label"] for row in mine if row["on_macs_front"]}
        for row in mine:
            beaten = any(
                other["macs"] <= row["macs"]
                and other["test_error_percent"] <= row["test_error_percent"]
                and (other["macs"], other["test_error_percent"]) != (row["macs"], row["test_error_percent"])
                for other in mine
            )
            assert (row["label"] in front) is not beaten
        assert front == {"R18", "p4-E4R18", "p4m-E4R18"}


def test_it_is_drawn_per_data_set_with_its_numbers(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("plot", "executions", "r18", "p4m-r18", "--out", "drawn", "-f", "csv", "-f", "svg")
    assert code == 0
    assert {Path(line).name.split("-and")[0] for line in out.splitlines()} == {
        f"executions-r18-p4m-r18-{name}.{ending}" for name in ("cifar10", "cifar100") for ending in ("csv", "svg")
    }
    with (tmp_path / "drawn" / "executions-r18-p4m-r18-cifar10.csv").open(encoding="utf-8") as file:
        found = {(row["execution"], row["label"]): row["macs"] for row in csv.DictReader(file)}
    assert int(found["irreps", "p4m-R18"]) * 5 < int(found["bank", "p4m-R18"]) == 5_619_205_856


def test_a_network_of_one_execution_is_named_once(rows: list[dict[str, object]]) -> None:
    (cifar10, _) = execution_plots("executions", rows)
    texts = [text.get_text() for text in cifar10.figure.axes[0].texts]
    assert texts.count("R18") == 1
    assert texts.count("p4m-R18") == 2


def test_the_default_networks_are_those_of_the_tables() -> None:
    assert {"p4m-r18", "p4m-e4r18-printed", "e4net-printed", "p4-cnn", "r18"} <= set(default_models())
    assert "p4m-resnet44" not in default_models()
