"""The example notebook runs from top to bottom, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "example.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("ipykernel", reason="ipykernel runs the notebook: pip install -e '.[dev]'")
    nbformat = pytest.importorskip("nbformat", reason="nbformat reads the notebook: pip install -e '.[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebook: pip install -e '.[dev]'")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return notebook


def outputs(notebook: Any, kind: str) -> list[str]:
    return [
        data[kind]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in (data := output.get("data", {}))
    ]


def test_it_runs_and_its_results_show_themselves_as_tables(executed: Any) -> None:
    shown = outputs(executed, "text/html")
    assert len(shown) == 4
    assert all("<table" in one for one in shown)
    assert "E4Conv2d" in shown[1]


def test_it_draws_a_figure(executed: Any) -> None:
    assert len(outputs(executed, "image/png")) == 1


def test_its_network_is_equivariant(executed: Any) -> None:
    assert any(text.startswith("('equivariant',") for text in outputs(executed, "text/plain"))


def test_no_warning_and_nothing_on_stderr(executed: Any) -> None:
    found = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {output.output_type for output in found} == {"execute_result", "display_data", "stream"}
    (printed,) = [output for output in found if output.output_type == "stream"]
    assert printed.name == "stdout"
    assert r"\label{tab:own}" in printed.text


def test_it_is_committed_without_outputs() -> None:
    import json

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
