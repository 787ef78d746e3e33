from __future__ import annotations

from pathlib import Path

import pytest
from own_nets import NET, write


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A file of networks of one's own."""
    return write(tmp_path, NET)
