from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from e4profile.questions.guard.checks import Check, LayerChange, Status
from e4profile.questions.guard.config import GuardConfig
from e4profile.questions.guard.report import (
    MARKER,
    github_annotations,
    guard_table,
    junit_error,
    junit_text,
    markdown_comment,
)
from e4profile.questions.guard.run import GuardResult, ModelResult
from e4profile.records.baseline import LayerCosts, ModelCosts


def costs(params: int) -> ModelCosts:
    return ModelCosts(
        "b", "1x3x8x8", {}, {"params": params, "macs": 7}, {"a": LayerCosts("Conv2d", {"params": params, "macs": 7})}
    )


def result(folder: Path, *models: ModelResult) -> GuardResult:
    file = folder / "pyproject.toml"
    file.write_text("[[tool.e4profile.models]]\nname = 'one'\n\n[[tool.e4profile.models]]\n  name= \"two\"\n")
    return GuardResult(GuardConfig(file, (), folder / "b.json"), models, ("a note",))


def one(name: str, status: Status = "pass", message: str = "") -> ModelResult:
    checks = (Check(name, "params_max", 10, 9), Check(name, "baseline params", 8, 9, status, message))
    changes = (LayerChange("a", "Conv2d", "params", 8, 9, "its | channels"),)
    return ModelResult(name, checks, costs(8), costs(9), changes, ("width 8 -> 9",), ("odd::op: ran twice",))


def test_junit_agrees_with_the_exit_code(tmp_path: Path) -> None:
    for statuses, code in ((("pass",), 0), (("no baseline", "deviation"), 1), (("no baseline", "pass"), 3)):
        found = result(tmp_path, *(one(f"net{i}", s, "<why> & \x1b") for i, s in enumerate(statuses)))
        assert found.exit_code == code
        root = ET.fromstring(junit_text(found))
        suite = root.find("testsuite")
        assert suite is not None
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases) == 2 * len(statuses)
        for parent in (root, suite):
            assert int(parent.attrib["failures"]) == len(suite.findall(".//failure")) == statuses.count("deviation")
            assert int(parent.attrib["errors"]) == len(suite.findall(".//error")) == statuses.count("no baseline")
        assert all(bad.attrib["message"] == "<why> &  " for bad in suite.findall(".//failure"))
        assert (suite.findtext("system-out") or "").startswith("a note\n")


def test_junit_of_a_usage_error_is_an_error() -> None:
    root = ET.fromstring(junit_error("no such file"))
    assert (root.attrib["errors"], root.attrib["failures"], root.attrib["tests"]) == ("1", "0", "1")


def parsed(line: str) -> tuple[dict[str, str], str]:
    match = re.fullmatch(r"::error (.*?)::(.*)", line)
    assert match is not None

    def plain(text: str) -> str:
        for code, sign in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, sign)
        return text

    properties = dict(part.split("=", 1) for part in match[1].split(","))
    return {key: plain(value) for key, value in properties.items()}, plain(match[2])


def test_annotations_are_one_escaped_line_per_network(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = result(tmp_path, one("one"), one("two", "deviation", "up 50%\nsee: a,b"), one("x,y:z", "deviation", "m"))
    lines = github_annotations(found)
    assert len(lines) == 2
    assert not any("\n" in line for line in lines)
    properties, text = parsed(lines[0])
    assert properties == {"file": "pyproject.toml", "title": "e4profile guard: two", "line": "5"}
    assert text == "baseline params: up 50%\nsee: a,b"
    assert parsed(lines[1])[0] == {"file": "pyproject.toml", "title": "e4profile guard: x,y:z"}
    assert github_annotations(result(tmp_path, one("one"))) == []


def test_ten_annotations_hold_any_number_of_networks(tmp_path: Path) -> None:
    many = [one(f"net{i}", "deviation", "m") for i in range(12)]
    assert len(github_annotations(result(tmp_path, *many[:10]))) == 10
    lines = github_annotations(result(tmp_path, *many))
    assert len(lines) == 10
    assert parsed(lines[-1])[1] == "3 more networks deviate: net9, net10, net11"


def test_a_missing_baseline_is_annotated_once(tmp_path: Path) -> None:
    lines = github_annotations(result(tmp_path, *(one(f"net{i}", "no baseline", "write it") for i in range(3))))
    assert [parsed(line)[1] for line in lines] == ["no baseline for net0, net1, net2: write it"]


def test_the_comment_shows_before_after_and_why(tmp_path: Path) -> None:
    text = markdown_comment(result(tmp_path, one("one", "deviation", "moved")))
    assert text.startswith(MARKER)
    rows = [re.sub(r" +", " ", line) for line in text.splitlines()]
    assert "| deviation | one | baseline params | 8 | 9 |" in rows
    assert "| a | Conv2d | 8 | 9 | 1 | its \\| channels |" in rows
    assert "| parameters | 8 | 9 | 1 | 12.50% |" in rows
    assert "Asked differently: width 8 -\\> 9." in rows


def test_programs_get_numbers_and_readers_get_words(tmp_path: Path) -> None:
    check = Check("e", "equivariance_error_max", 1e-10, float("nan"), "deviation", "broken")
    found = result(tmp_path, ModelResult("e", (check,), None, costs(1)))
    row = guard_table(found, for_programs=True).rows[0]
    assert (row["expected"], row["actual"], row["message"]) == (1e-10, None, "broken")
    row = guard_table(found).rows[0]
    assert (row["expected"], row["actual"]) == ("1e-10", "nan")
