"""The program and the Python of a page, each in a process forked from one that has imported everything.

A command of the documentation takes a fraction of a second that way, and the whole documentation can be run. The
forked process is as fresh as a started one: nothing but imports, and a count that makes torch do its own, happened
before.

python docs_program.py SOCKET
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import image_clock

from e4profile.witnesses.timing.clock import CpuClock

SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as program:
    program.connect({socket!r})
    socket.send_fds(program, [b" "], [0, 1, 2])
    request = {{"argv": ["e4profile", *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
    program.sendall(json.dumps(request).encode())
    program.shutdown(socket.SHUT_WR)
    sys.exit(int(program.recv(16) or 70))
"""


def write_shim(folder: Path, address: str) -> None:
    """An executable ``e4profile`` in a folder that stands first on PATH."""
    file = folder / "e4profile"
    file.write_text(SHIM.format(python=sys.executable, socket=address), encoding="utf-8")
    file.chmod(0o755)


def request(address: str, message: dict[str, object], streams: list[int]) -> int:
    """Ask for a process with these standard streams; its exit code."""
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(address)
        socket.send_fds(program, [b" "], streams)
        program.sendall(json.dumps(message).encode())
        program.shutdown(socket.SHUT_WR)
        return int(program.recv(16) or 70)


@contextmanager
def served() -> Iterator[str]:
    """The address of a process that every command is forked from."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "program")
        process = subprocess.Popen(
            [sys.executable, __file__, address],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield address
        finally:
            process.kill()
            process.communicate()


def serve(address: str) -> NoReturn:
    import matplotlib.pyplot  # noqa: F401
    import rich.console  # noqa: F401

    import e4profile
    import e4profile.questions.formula.formulas
    import e4profile.questions.guard.run
    import e4profile.witnesses.equivariance.witness
    from e4profile.cli.main import main
    from e4profile.layers import E4Conv2d

    e4profile.count(E4Conv2d(2, 2, 3, group="p4"), (8, 5, 5))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                # with the signal ignored, a child's exit code would be lost
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _handle(connection, main)
            connection.close()


def _handle(connection: socket.socket, main: object) -> NoReturn:
    code = 1
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # a stream remembers whether what it was opened on can be sought in
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        text = b"".join(iter(lambda: connection.recv(65536), b""))
        message = json.loads(text)
        os.environ.clear()
        os.environ.update(message["environment"])
        os.chdir(message["folder"])
        sys.path[0] = message["folder"]
        if "argv" in message:
            sys.argv = _briefly(message["argv"])
            main()  # type: ignore[operator]
        else:
            _run_page(message["page"], message["blocks"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(str(code).encode())
        os._exit(0)


def _briefly(arguments: list[str]) -> list[str]:
    """The arguments of a command, which times little: here it shall run, and need not be exact."""
    from e4profile.witnesses.timing import references

    # on a busy machine not even one image may stay within the documented time
    if "--fits" in arguments:
        CpuClock.read = image_clock.read  # type: ignore[method-assign]
    if arguments[1:2] == ["calibrate"]:
        references.REFERENCES = references.REFERENCES[::4]
    times = arguments[1:2] in (["time"], ["calibrate"]) or "time=" in " ".join(arguments)
    brief = ["--max-run-time-s", "0.1"] if times and "--max-run-time-s" not in arguments else []
    return [*arguments, *brief]


def _run_page(page: str, blocks: list[dict[str, str]]) -> None:
    """The blocks in order; Python blocks share one namespace."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    for block in blocks:
        place = f"{page}, line {block['line']}"
        if block["title"]:
            file = Path(block["title"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block["text"], encoding="utf-8")
        elif block["language"] == "python":
            exec(compile("\n" * (int(block["line"])) + block["text"], page, "exec"), vars(module))
        elif block["language"] == "sh":
            sys.stdout.flush()
            done = subprocess.run(["sh", "-e"], input=block["text"], text=True, check=False)
            if done.returncode:
                sys.stderr.write(f"{place}: exit code {done.returncode} of\n{block['text']}")
                sys.exit(done.returncode)


if __name__ == "__main__":
    serve(sys.argv[1])
