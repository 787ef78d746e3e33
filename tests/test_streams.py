"""Through processes: what one's own code writes stays off stdout, and Ctrl-C at the start is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

LOUD = """
    import ctypes
    import os
    import subprocess
    from torch import nn

    libc = ctypes.CDLL(None)
    libc.printf(b"C while importing\\n")
    os.write(1, b"raw while importing\\n")

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            subprocess.run(["echo", "a child"], check=True)

        def forward(self, x):
            os.write(1, b"raw while running\\n")
            libc.printf(b"C while running\\n")
            if os.environ.get("FAILS"):
                raise OSError("on purpose")
            return super().forward(x)
"""
WORDS = ("C while importing", "raw while importing", "a child", "raw while running", "C while running")


def program(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "e4profile", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        # as a shell starts it: C's own buffer stays full until something flushes it
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "", **environment},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="the descriptors and C library of another system")
@pytest.mark.parametrize("command", [("memory",), ("time", "--min-run-time-s", "0", "--max-run-time-s", "0.01")])
def test_what_is_written_past_python_stays_off_stdout(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "loud.py").write_text(dedent(LOUD))
    found = program(*command, "loud.py:Net", "--input", "2x4", "-f", "json", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)) == 1
    for word in WORDS:
        assert word in found.stderr
    if command != ("memory",):
        failed = program(*command, "loud.py:Net", "--input", "2x4", folder=tmp_path, FAILS="1")
        assert (failed.returncode, failed.stdout) == (2, "")
        assert "e4profile: loud.py:Net cannot run on (2, 4)" in failed.stderr


def test_stdout_is_given_back() -> None:
    code = """
        import os, sys
        from e4profile.subjects.guest import Guest

        guest = Guest("somebody")
        for error in (None, ValueError, KeyboardInterrupt):
            try:
                with guest.running(), guest.running():
                    os.write(1, b"guest\\n")
                    print("guest")
                    if error:
                        raise error
            except BaseException:
                pass
            os.write(1, b"data\\n")
        files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with guest.running():
            pass
        assert not files or len(os.listdir("/proc/self/fd")) == files
        sys.stdout = None
        with guest.running():
            os.write(1, b"data\\n")
    """
    found = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "data\n" * 4), found.stderr
    assert found.stderr == "guest\n" * 6


INTERRUPTED = """
    import os, signal, sys, time

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == MODULE:
                {ignore}
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
                if name == "torch":
                    raise ImportError("an import that was cut short")

    MODULE = sys.argv.pop(1)
    sys.meta_path.insert(0, Slow())
    from e4profile.__main__ import main
    main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another system")
@pytest.mark.parametrize("module", ["e4profile.cli.main", "typer", "e4profile.questions.count.command"])
def test_an_interrupt_amid_the_imports_is_one_line(module: str) -> None:
    code = dedent(INTERRUPTED).replace("{ignore}", "pass")
    # a shell's background jobs ignore interrupts, and so would what they start
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    arguments = [sys.executable, "-c", code, module, "cards"]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "\ne4profile: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another system")
def test_a_program_that_ignores_interrupts_goes_on() -> None:
    code = dedent(INTERRUPTED).replace("{ignore}", "pass")
    before = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    found = subprocess.run(
        [sys.executable, "-c", before, "typer", "--version"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("e4profile ")


def test_the_entry_point_imports_next_to_nothing() -> None:
    code = "import sys; import e4profile.__main__; print([m for m in ('torch', 'typer', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_while_the_interpreter_ends_does_not_take_the_exit_code() -> None:
    late = (
        "import builtins, os, signal, sys\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):\n"
        "        kill(process, number)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "builtins.late = Late()\n"
        "sys.argv = ['e4profile', '--help']\n"
        "from e4profile.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "guard" in done.stdout
