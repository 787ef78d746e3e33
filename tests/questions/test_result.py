"""What Python is answered: the command's own rows, words and refusals, in a frame that keeps what it knows."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from program import Run
from torch import Tensor, nn

import e4profile
import e4profile.layers
from e4profile import Result
from e4profile.show.tables import render

EXACT = ("closed-form", "dispatch")

ASKED: dict[str, Callable[[], Result]] = {
    "count e4net --set width=4 --counter closed-form --counter dispatch": lambda: e4profile.count(
        "e4net", counter=EXACT, width=4
    ),
    "count e4net p4-cnn --counter dispatch --batch-size 2": lambda: e4profile.count(
        ["e4net", "p4-cnn"], counter="dispatch", batch_size=2
    ),
    "check e4net --set slices=1": lambda: e4profile.check("e4net", set={"slices": 1}),
    "memory z2cnn --batch-size 2,3 --optimiser adam": lambda: e4profile.memory(
        "z2cnn", batch_size=[2, 3], optimiser="adam"
    ),
    "memory z2cnn --pass forward --fits 5MB": lambda: e4profile.memory("z2cnn", pass_="forward", fits="5MB"),
    "equivariance e4net --set width=2 --set slices=1 --train-steps 0 --group p4": lambda: e4profile.equivariance(
        "e4net", width=2, slices=1, train_steps=0, group="p4"
    ),
    "published 2": lambda: e4profile.published(2),
    "match e4net --to 20k": lambda: e4profile.match("e4net", to=20_000),
    "training z2cnn --recipe epochs=1,batch_size=2,training_images=9,optimiser=sgd": lambda: e4profile.training(
        "z2cnn", recipe={"epochs": 1, "batch_size": 2, "training_images": 9, "optimiser": "sgd"}
    ),
    "reconcile e4net --params 18.8K --changes 1 --vary width=24..26": lambda: e4profile.reconcile(
        "e4net", params="18.8K", changes=1, vary={"width": "24..26"}
    ),
    "cards --group p4m --table 4": lambda: e4profile.cards(group="p4m", table="4"),
    "sweep e4net --vary width=2,4 --max params=5k": lambda: e4profile.sweep(
        "e4net", vary={"width": [2, 4]}, max={"params": "5k"}
    ),
}


@pytest.mark.parametrize("line", ASKED)
def test_rows_latex_and_exit_code_are_those_of_the_command(line: str, run: Run) -> None:
    found = ASKED[line]()
    shown = run(*line.split(), "--format", "csv")
    # a row of memory says its notes itself where a format has no place for them
    rows = [{key: row[key] for key in row.keys() - {"kernels", "notes"}} for row in _rows(shown.out)]
    assert _rows(render(found._as_table(), "csv")) == rows
    assert found.to_latex() == run(*line.split(), "--format", "latex").out
    assert found.exit_code == shown.code


def test_a_formula_has_its_terms_as_rows_and_equations_in_latex(run: Run) -> None:
    found = e4profile.formula(e4profile.layers.E4Conv2d, of="e4net")
    assert found[["table", "term", "latex", "value"]].to_dict("records") == [
        {key: term[key] for key in ("table", "term", "latex", "value")}
        for term in json.loads(run("formula", "e4", "--of", "e4net", "--format", "json").out)
    ]
    assert r"\begin{tabular}" in found.to_latex()
    symbols = e4profile.formula("e4", memory=True)
    assert symbols.to_latex() == run("formula", "e4", "--memory", "--format", "latex").out
    assert pickle.loads(pickle.dumps(symbols)).to_latex() == symbols.to_latex()
    assert list(e4profile.formula().layer) == json.loads(run("formula", "--format", "json").out)
    with pytest.raises(e4profile.SettingError, match="Conv2d is no"):
        e4profile.formula(nn.Conv2d)


def test_a_guard_takes_what_a_file_would_hold(run: Run, tmp_path: Path) -> None:
    models = [{"name": "e4net", "params_max": "20k", "peak_bytes_max": "1MB"}]
    found = e4profile.guard({"models": models})
    text = 'baseline = false\n[[models]]\nname = "e4net"\nparams_max = "20k"\npeak_bytes_max = "1MB"\n'
    (tmp_path / "e4profile.toml").write_text(text)
    shown = run("guard", "--format", "csv")
    assert _rows(render(found._as_table(), "csv")) == _rows(shown.out)
    assert (found.exit_code, shown.code) == (1, 1)
    assert found.attrs["verdict"] == "deviations"
    with pytest.raises(e4profile.SettingError, match=r"models\[0\].params_mx: unknown key"):
        e4profile.guard({"models": [{"name": "e4net", "params_mx": 1}]})


def test_figures_are_those_of_plot(run: Run, tmp_path: Path) -> None:
    found = e4profile.count("z2cnn", counter=EXACT)
    run("count", "z2cnn", "--counter", "dispatch", "--plot", tmp_path / "theirs")
    drawn = found.plot(tmp_path / "ours")
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    assert {path.name: path.read_bytes() for path in drawn} == theirs
    figures = found.plot()
    assert len(figures) == 2
    assert figures[0]._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"
    assert figures._repr_html_().count("data:image/png;base64,iVBOR") == 2
    (file,) = e4profile.sweep("e4net", vary="width=2,4,6", front=["params", "macs"]).plot(
        tmp_path / "front.pdf", width="12cm", font="8pt", bare=True
    )
    assert file.read_bytes().startswith(b"%PDF")
    errors = e4profile.sweep(["z2cnn", "p4cnn"], front="error,macs").plot(tmp_path / "errors")
    assert {path.suffix for path in errors} == {".svg", ".png", ".csv"}
    (points,) = (path.read_text() for path in errors if path.suffix == ".csv")
    assert "z2cnn" in points, "the figure of errors, not of the paper's grid"
    with pytest.raises(e4profile.SettingError, match="read back"):
        pickle.loads(pickle.dumps(found)).plot()
    assert found.plot.bar(x="path", y="params").get_xlabel() == "path"
    for path in ("x.pdf", tmp_path / "x.pdf"):
        with pytest.raises(e4profile.SettingError, match=r"x\.pdf: what was asked has no figure"):
            e4profile.check("z2cnn").plot(path)


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("count e4nett", lambda: e4profile.count("e4nett")),
        ("count e4net --set widht=3", lambda: e4profile.count("e4net", widht=3)),
        ("count e4net --top 0", lambda: e4profile.count("e4net", top=0)),
        ("count e4net --execution banks", lambda: e4profile.count("e4net", execution="banks")),
        ("memory e4net --fits 1GiB --batch-size 2", lambda: e4profile.memory("e4net", fits="1GiB", batch_size=2)),
        ("time e4net --breakdown --fits 1s", lambda: e4profile.time("e4net", breakdown=True, fits="1s")),
    ],
)
def test_refusals_are_those_of_the_command(line: str, call: Callable[[], Result], run: Run) -> None:
    with pytest.raises(e4profile.E4ProfileError) as refused:
        call()
    said = run(*line.split())
    assert said.code == 2
    assert said.err == f"e4profile: {refused.value}\n"


@pytest.mark.parametrize(
    ("values", "words"),
    [({"verify": -1}, "at least 0"), ({"verify": 1.5}, "whole number"), ({"time": "no"}, "True or False")],
)
def test_values_of_another_type_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(e4profile.SettingError, match=rf"--{next(iter(values))} .*{words}"):
        e4profile.sweep("e4net", vary={"width": 2}, **values)


@pytest.fixture(scope="module")
def counted() -> Result:
    return e4profile.count("e4net", width=4)


def test_what_it_knows_is_kept(counted: Result) -> None:
    kept = [
        counted[counted.dispatch > 0],
        counted.copy(),
        counted.head(2),
        counted[["path", "dispatch"]],
        counted.sort_values("dispatch"),
        pickle.loads(pickle.dumps(counted)),
    ]
    for one in kept:
        assert isinstance(one, Result)
        assert one.totals == counted.totals
        assert one.notes == counted.notes != []
        assert one.gaps["thop"]["unexplained"] == 0
        assert one.coverage == "whole"
        assert one.title in one._repr_html_()
    both = pd.concat([counted, e4profile.count("p4-cnn", counter=EXACT)])
    assert set(counted.notes) < set(both.notes)
    assert both.coverage == "whole"
    assert both.totals == {}
    with pytest.raises(AttributeError, match="nothing"):
        counted.nothing  # noqa: B018


def test_latex_of_a_part_is_of_that_part(counted: Result, tmp_path: Path) -> None:
    part = counted[counted.path.str.startswith("layer2")]
    text = part.to_latex(tmp_path / "part.tex", columns=["path", "dispatch"], caption="A part", label="part")
    assert (tmp_path / "part.tex").read_text() == text
    assert r"\caption{A part}" in text
    assert r"\label{part}" in text
    assert text.count(r"\\") == 1 + len(part)
    assert "layer3" in counted.to_latex()
    assert "layer3" not in text
    with pytest.raises(e4profile.UnknownNameError, match="dispach"):
        part.to_latex(columns=["dispach"])


def test_a_notebook_shows_rows_totals_and_notes(counted: Result) -> None:
    html = counted._repr_html_()
    macs = counted.totals["dispatch"]["macs"]
    assert f"total, dispatch: params {counted.params.sum():,}, macs {macs:,}" in html
    assert all(note.split(":")[0] in html for note in counted.notes)
    assert html.count("<tr>") == 1 + len(counted)
    with pd.option_context("display.max_rows", 4):
        assert f"{len(counted) - 2} more of {len(counted)} rows" in counted._repr_html_()


def test_values_of_any_kind_are_shown(counted: Result) -> None:
    odd = counted.head(2).assign(inf=float("inf"), missing=None, where=[{"a": 1}, (2,)], agrees=pd.NA)
    table = odd.set_index("path")._as_table()
    assert table.columns[0].key == "path"
    assert table.rows[0]["inf"] == "inf"
    assert table.rows[1]["where"] == "(2,)"
    assert table.rows[0]["agrees"] is None


class _Sum(nn.Module):
    def forward(self, *images: Tensor) -> Tensor:
        total: Any = sum(images)
        return total.flatten(1)


def test_modules_in_hand_are_networks_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).train()
    found = e4profile.count([model, "e4net"], (1, 28, 28), counter=EXACT)
    assert list(found.model)[1:] == ["e4net"]
    assert found.totals["Sequential"]["dispatch"]["macs"] == 2 * 9 * 26 * 26
    assert e4profile.memory(model, (1, 28, 28), batch_size=[1, 4], loss=lambda out: out.sum()).agrees.all()
    assert list(e4profile.count(_Sum(), [(1, 2, 3), (1, 2, 3)], batch_size=5, counter=EXACT).output) == []
    assert model.training
    assert next(iter(model.parameters())).device.type == "cpu"
    with pytest.raises(e4profile.SettingError, match=r"batch_size \(=2\) cannot replace"):
        e4profile.count(_Sum(), [(1, 2, 3), (4, 2, 3)], batch_size=2)
    assert capsys.readouterr() == ("", "")
