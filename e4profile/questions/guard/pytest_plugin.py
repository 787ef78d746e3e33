"""The pytest plugin: hold a network to its cost inside an ordinary test.

pytest loads this module in every run of an environment that has the package, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn

    from e4profile.records.baseline import ModelCosts

MARKER = "e4profile"

Checker = Callable[..., "ModelCosts"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, for projects that refuse unknown ones."""
    config.addinivalue_line("markers", f"{MARKER}: holds a network to its cost (set by e4profile_check itself)")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark every test that uses the fixture, so that ``-m e4profile`` selects them."""
    if "e4profile_check" in getattr(item, "fixturenames", ()):
        item.add_marker(MARKER)


@pytest.fixture
def e4profile_check(request: pytest.FixtureRequest) -> Checker:
    """A function that fails the test when a network exceeds its budgets, naming the layers responsible.

    ``e4profile_check(model, input, params_max=..., macs_max=..., saved_bytes_max=..., peak_bytes_max=...,
    forward_peak_bytes_max=..., closed_form=True, equivariance_error_max=..., group=..., field_out=...)`` takes
    a module, a card's name or ``file.py:build`` (from the folder of pytest's configuration), and a shape such as
    ``(1, 3, 32, 32)`` or ``"1x3x32x32"``, a tensor, a dict of keyword inputs or a sequence of inputs. It gives the
    exact counts back: ``.costs["params"]``, ``.costs["macs"]`` and ``.layers`` by path.
    """

    def check(
        model: nn.Module | str, input: Any = None, *, arguments: Mapping[str, Any] | None = None, **budgets: Any
    ) -> ModelCosts:
        __tracebackhide__ = True
        from e4profile.questions.guard.run import check_directly

        costs, problems = check_directly(model, input, request.config.rootpath, arguments or {}, budgets)
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)
        return costs

    return check
