"""``e4profile count`` with several networks: a table of costs."""

from __future__ import annotations

import csv
import io
import json

from program import Run, says


def test_each_network_has_the_totals_of_its_own_document(own: Run) -> None:
    inputs = ("--input", "2x3x8x8")
    code, out, _ = own("count", "e4net", "net.py:build", "p4-cnn", *inputs, "-f", "json")
    assert code == 0
    found = json.loads(out)
    assert [one["model"] for one in found] == ["e4net", "net.py:build", "p4-cnn"]
    for one in found:
        _, alone, _ = own("count", one["model"], *(inputs if "net.py" in one["model"] else ()), "-f", "json")
        expected = json.loads(alone)
        expected.pop("layers")
        assert one == expected
    _, table, _ = own("count", "e4net", "net.py:build", "p4-cnn", *inputs, "-f", "csv")
    for row, one in zip(csv.DictReader(io.StringIO(table)), found, strict=True):
        for name, value in one["totals"].items():
            assert row[name] == ("" if value is None else str(value))


def test_arguments_stand_in_the_rows_and_own_models_take_theirs(own: Run) -> None:
    code, out, _ = own("count", "e4net", "p4-cnn", "--set", "width=4", "--convention", "flops", "--units", "exact")
    assert code == 0
    assert "e4net width=4" in out
    assert "flops, closed form" in out
    code, _, err = own("count", "e4net", "net.py:build", "--input", "1x3x8x8", "--arg", "nothing=4")
    assert (code, "nothing" in err) == (2, True)


def test_one_disagreement_fails_and_names_its_network(own: Run) -> None:
    code, out, err = own("count", "e4net", "net.py:wrong", "--input", "1x3x8x8")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines() if "x28x28" in line or "1x3x8x8" in line] == ["yes", "no"]
    assert says(err, "net.py:wrong: 0: convolution", "closed form 3888", "measured 7776")
    code, out, err = own("count", "e4net", "net.py:wrong", "--input", "1x3x8x8", "--counter", "dispatch")
    assert (code, "agrees" in out, "measured" in err) == (0, False, False)


def test_batches_and_latex(own: Run) -> None:
    _, one, _ = own("count", "e4net", "p4-cnn", "--counter", "dispatch", "-f", "json")
    _, two, _ = own("count", "e4net", "p4-cnn", "--counter", "dispatch", "--batch-size", "2", "-f", "json")
    first, second = json.loads(one), json.loads(two)
    assert [row["totals"]["dispatch"] * 2 for row in first] == [row["totals"]["dispatch"] for row in second]
    assert [row["input"][:2] for row in second] == ["2x", "2x"]
    _, latex, _ = own("count", "e4net", "p4-cnn", "-f", "latex")
    assert latex.count("& e4net &") == latex.count("& p4-cnn &") == 1
