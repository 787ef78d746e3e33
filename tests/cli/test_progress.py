"""Those who wait see a bar with an estimate; a pipe sees nothing, or the two lines of a log."""

from __future__ import annotations

import io
import os
import signal
import sys
import time

import pytest
from program import Run

from e4profile.questions.output import Progress, on_interrupt, waiting
from e4profile.witnesses.beat import beat


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From inside a test only: between a fixture and its test, pytest puts its own streams back."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    return stream


def screens(stream: io.StringIO) -> list[str]:
    return stream.getvalue().split("\r\x1b[2K")


def test_a_bar_fills_up_with_an_estimate_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    now = iter((0.0, 3.0, 8.0, 9.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with Progress("table", 4, quiet=True) as progress:
        progress.step("one")
        progress.step("two " * 30)
    _, start, one, two, end = screens(terminal)
    assert start == "table [--------------------] 0/4"
    assert one == "table [#####---------------] 1/4, about 9 s left: one"
    assert two.startswith("table [##########----------] 2/4, about 8 s left: two two")
    assert len(two) == 59
    # what was not finished is said, what was finished is not
    assert end == "table: 2 of 4 done\n"
    monkeypatch.setattr("time.monotonic", lambda: 9.0)
    with Progress("table", 1, quiet=True) as progress:
        progress.step("all")
    assert screens(terminal)[-1] == ""


def test_a_pipe_sees_the_lines_of_a_log_unless_it_asked_for_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Progress("sweep", 2, quiet=quiet) as progress:
            progress.step("one")
    assert capsys.readouterr().err == "sweep: 2 to do\nsweep: 1 of 2 done\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("formula", "e4"), ("cards",), ("published", "2"), ("check", "e4net"), ("count", "z2cnn"),
        ("equivariance", "p4cnn", "--train-steps", "0"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_on_a_terminal_each_slow_command_shows_a_bar_and_nothing_remains(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    terminal = on_terminal(monkeypatch)
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out
    if arguments[0] == "cards":
        assert terminal.getvalue() == ""  # it reads the cards alone
        return
    first, *_, last = screens(terminal)
    assert first == last == ""
    assert f"{arguments[0]} [####################]" in terminal.getvalue()


@pytest.mark.parametrize("arguments", [("count", "nosuch"), ("equivariance", "nosuch"), ("check", "nosuch")])
def test_on_a_terminal_bad_input_is_one_line_and_the_bar_is_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    terminal = on_terminal(monkeypatch)
    code, out, _ = run(*arguments)
    assert (code, out) == (2, "")
    assert screens(terminal)[-1].startswith("e4profile: unknown model 'nosuch'")
    assert terminal.getvalue().count("\n") == 1


def test_an_interrupted_bar_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        with Progress("count", 3, quiet=True) as progress:
            progress.step("one")
            raise KeyboardInterrupt

    terminal = on_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screens(terminal)[-1] == "count: 1 of 3 done\n"


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_command_that_is_told_to_end_says_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def told_to_end() -> None:
        with on_interrupt("what it left goes on"), on_interrupt(lambda: "1 job runs on"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        told_to_end()
    assert end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.split("\n") == ["", "1 job runs on", "", "what it left goes on", ""]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_pipe_hears_of_long_work_every_ten_seconds_between_and_inside_of_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Progress("equivariance", 2, quiet=True) as progress:
        for _ in range(25):
            now[0] += 1
            beat()
        progress.step("as built")
        now[0] += 9.5
        progress.step("trained")
    beat()
    assert capsys.readouterr().err.splitlines() == [
        "equivariance: 0 of 2 done, 10 s, starting",
        "equivariance: 0 of 2 done, 20 s, starting",
        "equivariance: 2 of 2 done, 34 s, after trained",
    ]


@pytest.mark.parametrize("command", ["count", "equivariance"])
def test_the_work_gives_signs_of_life(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    beats: list[int] = []
    monkeypatch.setattr(Progress, "_log", lambda self: beats.append(self.done))
    options = ("--counter", "dispatch") if command == "count" else ("--train-steps", "1")
    assert run(command, "z2cnn" if command == "count" else "p4cnn", *options).code == 0
    assert len(beats) > 10


SAID = ((0.0, "start"), (1.9, "early"), (2.5, "first"), (2.55, "soon"), (9.0, "later"), (12.6, "last"))


def told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(1.0 + seconds for seconds, _ in SAID)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with waiting("match") as say:
        for _, text in SAID:
            say(text)


def test_words_come_after_two_seconds_and_leave_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    told(monkeypatch)
    assert screens(terminal) == ["", "match, 2 s: first", "match, 9 s: later", "match, 13 s: last", ""]


def test_a_pipe_is_told_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told(monkeypatch)
    assert capsys.readouterr() == ("", "match, 2 s: first\nmatch, 13 s: last\n")
