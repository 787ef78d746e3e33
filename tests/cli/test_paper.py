"""The options for a paper are on every command with LaTeX, and say so where they would do nothing."""

from __future__ import annotations

import pytest
import torch
from program import Run, says

from e4profile.cli.main import listed
from e4profile.errors import SettingError
from e4profile.show.paper import COLUMN_CM, font_named, length_cm, paper

TINY = ("count", "e4net", "--counter", "closed-form")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("of 50% less", r"of 50\% less"), (r"50\%", r"50\%"), (r"a\\%", r"a\\\%"),
        ("größer als π × 2", r"größer als \ensuremath{\pi}  \ensuremath{\times} 2".replace("  ", " ")),
    ],
)  # fmt: skip
def test_a_caption_of_the_authors_own_compiles_and_hides_nothing(run: Run, given: str, written: str) -> None:
    lines = run(*TINY, "-f", "latex", "--caption", given, "--label", "tab:a").out.splitlines()
    assert rf"\caption{{{written}}}\label{{tab:a}}\smallskip" in lines
    assert any(line.startswith(r"\parbox") and "raggedright Convention: macs" in line for line in lines)


def test_every_command_with_latex_has_them() -> None:
    with_latex = 0
    for name, command in listed().items():
        flags = {flag: one for one in command.params for flag in one.opts}
        if "--units" in flags:
            with_latex += 1
            assert {"--columns", "--caption", "--label", "--width", "--bare"} <= set(flags), name
    assert with_latex > 10


def test_they_set_the_table_and_leave_nothing_behind(run: Run) -> None:
    asked = ("-f", "latex", "--columns", "path,closed_form", "--width", "17.8cm", "--bare")
    lines = run(*TINY, *asked, "--caption", r"A \emph{b}", "--label", "tab:a").out.splitlines()
    assert r"\begin{table*}[htbp]" in lines
    assert r"\caption{A \emph{b}}\label{tab:a}\smallskip" in lines
    assert any(line.startswith("path & ") and line.count("&") == 1 for line in lines)
    assert paper().width_cm == COLUMN_CM
    table = run(*TINY, "--bare", "--columns", "closed form,path").out
    assert table.split()[:3] == ["closed", "form", "path"]
    assert "Convention" not in table


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--label", "x"), ("--label", "latex")),
        (("--caption", "x", "-f", "csv"), ("--caption", "latex")),
        (("--columns", "path", "-f", "json"), ("--columns", "json")),
        (("--label", "a}b", "-f", "latex"), ("--label 'a}b'", "'}'")),
        (("--caption", "a}{", "-f", "latex"), ("--caption 'a}{'", "counterpart")),
        (("--width", "3ft"), ("3ft", "8.5cm")),
        (("--width", "1cm"), ("--width", "4 to 60 cm")),
    ],
)
def test_what_would_do_nothing_is_refused(run: Run, options: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = run(*TINY, *options)
    assert (done.code, done.out, says(done.err, *words)) == (2, "", True)


def test_a_column_that_no_table_has_is_refused_and_costs_no_work(run: Run) -> None:
    """Columns are known once the work is done, so the others are shown before the refusal."""
    done = run(*TINY, "--columns", "path,pahts,params", "-f", "csv")
    assert (done.code, done.out.splitlines()[0]) == (2, "path,params")
    assert says(done.err, "unknown column 'pahts'", "path")


def test_lengths_and_fonts() -> None:
    assert [length_cm(text) for text in ("8.5", "85 mm", "8.5cm")] == pytest.approx([8.5] * 3)
    assert length_cm("72.27pt") == length_cm("1in") == pytest.approx(2.54)
    assert [font_named(text) for text in ("serif", "9", "STIX Two Text, 8pt")] == [
        ("serif", 7.0), ("", 9.0), ("STIX Two Text", 8.0),
    ]  # fmt: skip
    for text in ("", "8,9", "serif,sans", "serif,8,x", "-3"):
        with pytest.raises(SettingError, match="--font"):
            font_named(text)


@pytest.mark.parametrize(
    "asked",
    [
        ("time", "z2cnn"),
        ("time", "z2cnn", "--breakdown"),
        ("time", "z2cnn", "--roofline"),
        ("time", "z2cnn", "--fits", "1ms"),
        ("time", "z2cnn", "--against", "p4cnn"),
        ("calibrate",),
        ("training", "p4-r18", "--device", "cpu"),
        ("equivariance", "p4cnn"),
        ("check", "p4cnn"),
        ("match", "z2cnn", "--to", "25k"),
        ("sweep", "--group", "p4", "--time"),
        ("sweep", "z2cnn", "--vary", "width=8,16"),
        ("sweep", "z2cnn", "--vary", "width=8,16", "--max", "params=25k"),
    ],
    ids=" ".join,
)
def test_a_column_that_a_long_command_lacks_is_refused_before_it_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    def began(*_: object, **__: object) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr(torch.nn.Module, "__call__", began)
    done = run(*asked, "--columns", "nothing")
    assert (done.code, done.out) == (2, "")
    assert says(done.err, "unknown column 'nothing'")
