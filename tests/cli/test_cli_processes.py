"""The command line as a process: signals, pipes, imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import says

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
SWEEP = ("sweep", "-s", "1", "-k", "3", "--width", "2,4,6,8", "-r", "1,2", "--no-plots", "--format", "json")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "e4profile", *arguments]


def process(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), cwd=cwd, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=_hears_interrupts if os.name == "posix" else None,  # noqa: PLW1509 - one thread here
    )  # fmt: skip


def _hears_interrupts() -> None:
    # a job that a shell started in the background ignores interrupts, and so would everything it starts
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['e4profile', '--help']\n"
        "from e4profile.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'fvcore', 'thop', 'sympy', 'numpy'} & set(sys.modules)\n"
        # a stand-in for a module that may not be needed has no file
        "heavy = {name for name in heavy if sys.modules[name].__file__}\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("sweep", "published", "check", "count", "cards", "formula"):
        assert name in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_saves_what_is_finished_and_the_same_command_goes_on(tmp_path: Path) -> None:
    running = process(*SWEEP, "--out", "here", cwd=tmp_path)
    records = tmp_path / "here" / "records.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not records.exists() or records.read_text().count("\n") < 2):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=300)
    saved = records.read_text().count("\n")
    assert running.returncode == 130, err
    assert out == ""
    assert says(err, "saved in here", "the same command")
    assert err.endswith("\ne4profile: interrupted\n")
    assert "Traceback" not in err
    assert 2 <= saved < 12
    again = process(*SWEEP, "--out", "here", cwd=tmp_path)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert f"of the 12, {saved} were read back from " in err
    assert records.read_text().count("\n") == 12
    assert "Warning" not in err


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_in_a_command_that_saves_nothing_promises_nothing(tmp_path: Path) -> None:
    waits = "import sys, time\ndef build():\n    print('ready', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
    (tmp_path / "net.py").write_text(waits, encoding="utf-8")
    running = process("count", "net.py:build", "--input", "1x3x8x8", cwd=tmp_path)
    assert running.stderr is not None
    while "ready" not in (line := running.stderr.readline()):
        assert line, "it ended too early"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=300)
    assert (running.returncode, out, err) == (130, "", "\ne4profile: interrupted\n")


INTERRUPTED_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
names, place = [], os.environ["PLACE"]
def hear(event, arguments):
    if event == "import" and (names or arguments[0] == "e4profile.cli.main"):
        names.append(arguments[0])
        # once: what swallows it may import the same again
        if (len(names) == int(place)) if place.isdigit() else (arguments[0] == place and names.count(place) == 1):
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hear)
"""
"""Ctrl-C at one import, instead of at one moment."""

STARTS = {
    "module": "import runpy; runpy.run_module('e4profile', run_name='__main__', alter_sys=True)",
    "program": "from e4profile.__main__ import main; main()",
}


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("place", ["1", "7", "60", "numpy._globals", "torch.functional"])
@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_at_any_import_is_one_line(start: str, place: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{INTERRUPTED_AT}sys.argv = ['e4profile', 'cards']\n{STARTS[start]}"],
        cwd=tmp_path, env={**ENVIRONMENT, "PLACE": place}, text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ne4profile: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_in_a_text_that_is_run_ends_with_its_code(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import e4profile.cli.main as program, e4profile.__main__ as start\n"
        "program.main = lambda: exec('os.kill(os.getpid(), signal.SIGINT)')\n"
        "start.main()"
    )
    (tmp_path / "started.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "started"], cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ne4profile: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_reader_that_closes_the_pipe_sees_no_traceback(tmp_path: Path) -> None:
    running = process("cards", cwd=tmp_path)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    err = running.stderr.read()
    running.stderr.close()
    running.wait(300)
    assert err == ""
    assert running.returncode in (0, 1)


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("e4profile")
    if not program.exists():
        pytest.skip("e4profile is not installed as a program beside this Python")

    def completed(words: str) -> list[str]:
        asked = {"_E4PROFILE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [str(program)], cwd=tmp_path, env={**ENVIRONMENT, **asked}, text=True, capture_output=True, check=False
        )
        return done.stdout.split()

    assert completed("e4profile sw") == ["sweep"]
    assert completed("e4profile formula --pe") == ["--peak"]


def test_bad_input_as_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        command("count", "e4nt"), cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("e4profile: unknown model 'e4nt'; did you mean e4net")
    assert done.stderr.count("\n") == 1
