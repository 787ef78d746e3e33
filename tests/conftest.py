from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import own_model_nets
import pytest
from own_nets import NET, write
from program import Run, caller


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # what waits more than it works goes before all, beside mypy
    marks = {item: item.get_closest_marker("slow") for item in items}
    items.sort(key=lambda item: 2 if (mark := marks[item]) is None else int("waits" not in mark.args))


def pytest_collection_finish() -> None:
    # a file that a test writes twice within a second may look as its compiled one does
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    """Objects that are there before a file's tests stay: a clock collects garbage first, and would look at them all."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def program() -> Iterator[str]:
    """The address of the process that commands of other programs and pages are forked from, where a test needs one."""
    from docs_program import served

    with served() as address:
        yield address


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A file of user-defined networks."""
    return write(tmp_path, NET)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program in an empty folder, on no terminal: called with arguments, it gives its ``Result``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return caller(capsys, monkeypatch)


@pytest.fixture
def own(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """The program in a folder with ``net.py``, user-defined networks."""
    monkeypatch.delitem(sys.modules, "net", raising=False)
    own_model_nets.write(tmp_path, own_model_nets.NET)
    yield run
    sys.modules.pop("net", None)
